"""NES, linf and l2 (Ilyas et al. 2018, "Black-box Adversarial Attacks with Limited Queries and Information", section 2.1-2.2).

Estimates the gradient from `pairs` antithetic Gaussian probes, takes a projected step, and asks the new image: 2 * pairs + 1
answers a step. Probes are no candidates for success, iterates are. Differences: no momentum; probes are clipped to [0, 1],
since a deployed model takes no other images; a step that the budget can't pay in full is dropped.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from attacks import norms
from attacks.losses import LOSSES
from bench.core import rows
from bench.core.errors import BenchError, nearest
from bench.core.rng import banked_normal, mix
from bench.core.threat import Threat


class State(NamedTuple):
    key: Tensor  # (B,)
    t: Tensor  # (B,) queries told so far
    x: Tensor  # (B,C,H,W) in [0, 1], the clean image
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    current: Tensor  # (B,C,H,W) in [0, 1]
    slope: Tensor  # (B,C,H,W) the sum of (loss above - loss below) * noise
    noise: Tensor  # (B,C,H,W) of this pair, standard normal
    above: Tensor  # (B,) the pair's first loss


@dataclass(frozen=True)
class Nes:
    """fd_eta: standard deviation of a probe's pixels, or with `unit_probes` its expected l2 length; lr: step size in the
    threat's norm."""

    threat: Threat
    loss: Literal["margin", "cross_entropy"]
    pairs: int
    fd_eta: float
    unit_probes: bool
    lr: float
    version: int = 1
    anytime = True
    keeps_incumbent = False
    feedback = "logits"

    def __post_init__(self) -> None:
        norms.check("nes", self.threat.norm, ("linf", "l2"))
        if self.loss not in LOSSES:
            raise BenchError(f"attack.loss={self.loss} is unknown{nearest(self.loss, LOSSES)}")
        if self.pairs < 1 or self.fd_eta <= 0 or self.lr <= 0:
            raise BenchError(
                f"attack.pairs={self.pairs}, attack.fd_eta={self.fd_eta}, attack.lr={self.lr}: all must be positive"
            )
        if self.threat.queries < self._period:
            raise BenchError(
                f"one step of nes with attack.pairs={self.pairs} takes {self._period} answers, threat.queries="
                f"{self.threat.queries}; set attack.pairs={max((self.threat.queries - 1) // 2, 1)} or a larger budget"
            )

    @property
    def _period(self) -> int:
        return 2 * self.pairs + 1

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        zero, noise = torch.zeros_like(y), self._noise(key, torch.zeros_like(y), x)
        return State(key, zero, x, y, target, x.clone(), torch.zeros_like(x), noise, x.new_zeros(len(x)))

    def ask(self, s: State) -> Tensor:
        place = s.t % self._period
        size = self.fd_eta / (s.x[0].numel() ** 0.5 if self.unit_probes else 1)
        side = size * (place < self._period - 1) * (1 - 2 * (place % 2))
        return torch.addcmul(s.current, s.noise, side.view(-1, 1, 1, 1)).clamp_(0, 1)

    def candidate(self, s: State, reply: Tensor) -> Tensor:
        return s.t % self._period == self._period - 1

    def tell(self, s: State, asked: Tensor, reply: Tensor) -> State:
        loss, place = LOSSES[self.loss](reply, s.y, s.target), s.t % self._period
        first = (place % 2 == 0) & (place < self._period - 1)
        told = s._replace(t=s.t + 1, above=torch.where(first, loss, s.above))
        paired = (place % 2 == 1).nonzero()[:, 0]
        if not len(paired):
            return told
        some = rows.take(told, paired)
        slope = torch.addcmul(some.slope, some.noise, (some.above - loss[paired]).view(-1, 1, 1, 1))
        some = some._replace(slope=slope, noise=self._noise(some.key, some.t, some.x))
        over = (place[paired] == self._period - 2).nonzero()[:, 0]
        if len(over):
            some = some._replace(
                current=some.current.index_copy(0, over, self._moved(rows.take(some, over))),
                slope=slope.index_fill(0, over, 0.0),
            )
        changed = ("current", "slope", "noise")
        return told._replace(**{name: getattr(s, name).index_copy(0, paired, getattr(some, name)) for name in changed})

    def _noise(self, key: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return banked_normal(mix(key, t), *x.shape[1:])

    def _moved(self, s: State) -> Tensor:
        if self.threat.norm == "linf":
            step = s.slope.sign()
        else:
            step = s.slope / s.slope.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        return norms.project(s.x, s.current - self.lr * step, self.threat.norm, self.threat.radius)
