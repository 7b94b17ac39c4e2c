"""NES, linf and l2 (Ilyas et al. 2018, "Black-box Adversarial Attacks with Limited Queries and Information", section 2.1-2.2).

Estimates the gradient from `pairs` antithetic Gaussian probes, takes a projected step, and asks the new image: 2 * pairs + 1
answers a step. Probes are no candidates for success, iterates are. Differences: no momentum; probes are clipped to [0, 1],
since a deployed model takes no other images; a step that the budget can't pay in full is dropped.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from attacks import norms
from attacks.losses import LOSSES
from bench.core import rows
from bench.core.errors import BenchError, nearest
from bench.core.rng import banked_normal, mix, onward
from bench.core.rows import column
from bench.core.threat import Threat


class State(NamedTuple):
    key: Tensor  # (B,) the row's own, mixed once
    t: Tensor  # (B,) answers seen so far
    x: Tensor  # (B,C,H,W) in [0, 1], the clean image
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    current: Tensor  # (B,C,H,W) in [0, 1]
    gradient: Tensor  # (B,C,H,W) the estimate: the sum of (loss above - loss below) * noise
    noise: Tensor  # (B,C,H,W) of this pair, standard normal
    above: Tensor  # (B,) the pair's first loss
    below: Tensor  # (B,) the last loss observed


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
        key, zero, none = mix(key), torch.zeros_like(y), x.new_zeros(len(x))
        noise = self._noise(key, zero, x)
        return State(key, zero, x, y, target, x.clone(), torch.zeros_like(x), noise, none, none.clone())

    def query(self, s: State) -> Tensor:
        place = s.t % self._period
        size = self.fd_eta / (s.x[0].numel() ** 0.5 if self.unit_probes else 1)
        side = size * (place < self._period - 1) * (1 - 2 * (place % 2))
        return torch.addcmul(s.current, s.noise, column(side)).clamp_(0, 1)

    def candidate(self, s: State, output: Tensor) -> Tensor:
        return s.t % self._period == self._period - 1

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        return self._advance(s, LOSSES[self.loss](output, s.y, s.target))

    def ahead(self, s: State) -> State:
        """The probes of a step do not depend on their losses; the image after it does."""
        return self._advance(s, s.below)

    def _advance(self, s: State, loss: Tensor) -> State:
        place = s.t % self._period
        first = (place % 2 == 0) & (place < self._period - 1)
        s = s._replace(t=s.t + 1, above=torch.where(first, loss, s.above), below=loss)
        s = rows.update(s, place % 2 == 1, self._add_pair)
        return rows.update(s, place == self._period - 2, self._step)

    def _add_pair(self, s: Any) -> dict[str, Tensor]:
        """The estimate's sum over antithetic pairs (section 2.2): g += (loss above - loss below) * noise."""
        gradient = torch.addcmul(s.gradient, s.noise, column(s.above - s.below))
        return {"gradient": gradient, "noise": self._noise(s.key, s.t, s.x)}

    def _step(self, s: Any) -> dict[str, Tensor]:
        """Against the estimate, by lr in the threat's norm, and back into the ball (equation 4)."""
        if self.threat.norm == "linf":
            direction = s.gradient.sign()
        else:
            direction = s.gradient / column(s.gradient.flatten(1).norm(dim=1).clamp_min(1e-12))
        moved = norms.project(s.x, s.current - self.lr * direction, self.threat.norm, self.threat.radius)
        return {"current": moved, "gradient": torch.zeros_like(s.gradient)}

    def _noise(self, key: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return banked_normal(onward(key, t), *x.shape[1:])
