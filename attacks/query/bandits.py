"""Bandits, linf and l2 (Ilyas et al. 2019, "Prior Convictions", algorithms 1-3), with its time and data priors.

A prior for the gradient is carried from step to step (time prior) and may be coarser than the image (data prior, tiles). Each
step asks two probes around it, updates it, moves the image along it, and asks the new image: 3 answers, of which only the last
may end the attack. Differences: the iterate's answer is counted; probes are clipped to [0, 1]; one gradient iteration a step.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
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
    latent: Tensor  # (B,C,h,w) the prior; under linf its atanh: there exponentiated gradients are sums, and never stick at 1
    noise: Tensor  # (B,C,h,w) of this step, expected length `exploration`
    above: Tensor  # (B,) the first probe's loss
    below: Tensor  # (B,) the last loss observed


@dataclass(frozen=True)
class Bandits:
    """fd_eta: l2 length of a probe; image_lr: step in the threat's norm; tile_size: the prior is tile_size x tile_size,
    null = as large as the image; time_prior false: every step forgets it.
    """

    threat: Threat
    loss: Literal["margin", "cross_entropy"]
    fd_eta: float
    image_lr: float
    online_lr: float
    exploration: float
    tile_size: int | None
    time_prior: bool
    version: int = 1
    anytime = True
    keeps_incumbent = False
    feedback = "logits"

    def __post_init__(self) -> None:
        norms.check("bandits", self.threat.norm, ("linf", "l2"))
        if self.loss not in LOSSES:
            raise BenchError(f"attack.loss={self.loss} is unknown{nearest(self.loss, LOSSES)}")
        for name in ("fd_eta", "image_lr", "online_lr", "exploration"):
            if getattr(self, name) <= 0:
                raise BenchError(f"attack.{name}={getattr(self, name)} must be positive")
        if self.threat.queries < 3:
            raise BenchError(f"one step of bandits takes 3 answers, threat.queries={self.threat.queries}")

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        height, width = x.shape[2:]
        if self.tile_size is not None and not 0 < self.tile_size <= min(height, width):
            raise BenchError(
                f"attack.tile_size={self.tile_size} does not fit images of {height}x{width}; set it to at most "
                f"{min(height, width)}, or null for a prior as large as the image"
            )
        size = (height, width) if self.tile_size is None else (self.tile_size, self.tile_size)
        latent, zero = x.new_zeros(len(x), x.shape[1], *size), torch.zeros_like(y)
        key, none = mix(key), x.new_zeros(len(x))
        noise = self._noise(key, zero, latent)
        return State(key, zero, x, y, target, x.clone(), latent, noise, none, none.clone())

    def query(self, s: State) -> Tensor:
        place = s.t % 3
        side = column(1 - 2 * (place == 1).float())
        probe = self._large(self._prior(s.latent) + side * s.noise, s.x)
        size = self.fd_eta * (place < 2) / _length(probe)[:, 0, 0, 0]
        return torch.addcmul(s.current, probe, column(size)).clamp_(0, 1)

    def candidate(self, s: State, output: Tensor) -> Tensor:
        return s.t % 3 == 2

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        return self._advance(s, LOSSES[self.loss](output, s.y, s.target))

    def ahead(self, s: State) -> State:
        """The second probe does not depend on the first one's loss, nor the next step's on the image's; the image does."""
        return self._advance(s, s.below)

    def _advance(self, s: State, loss: Tensor) -> State:
        place = s.t % 3
        s = s._replace(t=s.t + 1, above=torch.where(place == 0, loss, s.above), below=loss)
        return rows.update(s, place == 1, self._step)

    def _step(self, s: Any) -> dict[str, Tensor]:
        """Algorithm 3: the prior goes against the gradient along the two probes, the image along the prior."""
        gradient = (s.above - s.below) / (self.fd_eta * self.exploration)  # of a loss to be lowered
        latent = s.latent - self.online_lr * column(gradient) * s.noise
        step = self._large(self._prior(latent), s.x)
        step = step.sign() if self.threat.norm == "linf" else step / _length(step)
        current = norms.project(s.x, s.current + self.image_lr * step, self.threat.norm, self.threat.radius)
        kept = latent if self.time_prior else torch.zeros_like(latent)
        return {"current": current, "latent": kept, "noise": self._noise(s.key, s.t, latent)}

    def _prior(self, latent: Tensor) -> Tensor:
        """linf: exponentiated gradients keep the prior in (-1, 1); with p = (1 + v)/2 they add to log(p/(1-p)) = 2 atanh v."""
        return latent.tanh() if self.threat.norm == "linf" else latent

    def _noise(self, key: Tensor, t: Tensor, latent: Tensor) -> Tensor:
        return banked_normal(onward(key, t), *latent.shape[1:]).mul_(self.exploration / latent[0].numel() ** 0.5)

    def _large(self, tiles: Tensor, x: Tensor) -> Tensor:
        return tiles if self.tile_size is None else F.interpolate(tiles, size=x.shape[2:], mode="nearest")


def _length(v: Tensor) -> Tensor:
    return column(v.flatten(1).norm(dim=1).clamp_min(1e-12))
