"""An evolution strategy on the flow, by confidences alone: the FGR paper's gradient-free attack, which it only names.

Antithetic Gaussian probes around the flow (Salimans et al. 2017, as NES for images), a sign step after each population, all in
the linf ball of eps pixels: so every probe is an image the attacker may stop at, and no answer is spent on the iterate itself.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from attacks import norms
from attacks.losses import LOSSES
from attacks.spatial.flow import check_bound
from bench.core.errors import BenchError, nearest
from bench.core.rng import mix, normal
from bench.core.threat import Threat
from bench.core.warp import warp


class State(NamedTuple):
    key: Tensor  # (B,)
    t: Tensor  # (B,) answers seen so far
    x: Tensor  # (B,C,H,W) in [0, 1]
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    flow: Tensor  # (B,H,W,2) in pixels
    slope: Tensor  # (B,H,W,2) the sum of (loss above - loss below) * noise
    noise: Tensor  # (B,H,W,2) of this pair
    above: Tensor  # (B,) the pair's first loss


@dataclass(frozen=True)
class FlowEs:
    """pairs: half the population. sigma, step: of a probe and of an update, as shares of eps. tile: the noise is drawn on so many
    places a side and spread bilinearly; null = every pixel its own. Raises BenchError for settings that make no sense.
    """

    threat: Threat
    loss: Literal["margin", "cross_entropy"]
    pairs: int
    sigma: float
    step: float
    tile: int | None
    version: int = 1
    anytime = True
    keeps_incumbent = False
    feedback = "logits"

    def __post_init__(self) -> None:
        norms.check("flow ES", self.threat.norm, ("flow_linf",))
        if self.loss not in LOSSES:
            raise BenchError(f"attack.loss={self.loss} is unknown{nearest(self.loss, LOSSES)}")
        if self.pairs < 1 or self.sigma <= 0 or self.step <= 0 or (self.tile is not None and self.tile < 2):
            raise BenchError(
                f"attack.pairs={self.pairs}, attack.sigma={self.sigma}, attack.step={self.step} must be positive, "
                f"attack.tile={self.tile} at least 2 or null"
            )

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        check_bound(self.threat, x)
        zero, rest = torch.zeros_like(y), x.new_zeros(len(x), *x.shape[2:], 2)
        return State(key, zero, x, y, target, rest, rest.clone(), self._noise(key, zero, x), x.new_zeros(len(x)))

    def query(self, s: State) -> Tensor:
        side = self.sigma * self.threat.radius * (1 - 2 * (s.t % 2))
        probe = torch.addcmul(s.flow, s.noise, side.view(-1, 1, 1, 1).to(s.x.dtype))
        return warp(s.x, probe.clamp_(-self.threat.radius, self.threat.radius))

    def candidate(self, s: State, output: Tensor) -> Tensor:
        return torch.ones_like(s.t, dtype=torch.bool)

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        loss = LOSSES[self.loss](output, s.y, s.target)
        second = s.t % 2 == 1
        ends = second & (s.t % (2 * self.pairs) == 2 * self.pairs - 1)
        slope = torch.addcmul(s.slope, s.noise, torch.where(second, s.above - loss, 0.0).view(-1, 1, 1, 1))
        eps = self.threat.radius
        moved = (s.flow - self.step * eps * slope.sign()).clamp_(-eps, eps)
        at_end, paired = ends.view(-1, 1, 1, 1), second.view(-1, 1, 1, 1)
        return s._replace(
            t=s.t + 1,
            flow=torch.where(at_end, moved, s.flow),
            slope=slope.masked_fill(at_end, 0.0),
            noise=torch.where(paired, self._noise(s.key, s.t + 1, s.x), s.noise),
            above=torch.where(second, s.above, loss),
        )

    def _noise(self, key: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """(B,H,W,2)"""
        if self.tile is None:
            return normal(mix(key, t), *x.shape[2:], 2)
        coarse = normal(mix(key, t), 2, self.tile, self.tile)
        fine = F.interpolate(coarse, size=tuple(x.shape[2:]), mode="bilinear", align_corners=True)
        return fine.permute(0, 2, 3, 1).contiguous()
