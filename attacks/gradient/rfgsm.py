"""R+FGSM (Tramèr et al. 2018, equation 7): a random sign step of `alpha` x eps, then one gradient sign step with the rest."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import norms
from attacks.base import Found, MakeOracle, Oracle, Rows
from attacks.losses import LOSSES
from bench.core.errors import BenchError, nearest
from bench.core.rng import normal
from bench.core.threat import Threat


@dataclass(frozen=True)
class RandomFgsm:
    """alpha: the random step's share of eps, in [0, 1). Raises BenchError for other norms than linf."""

    threat: Threat
    alpha: float
    loss: str
    oracle: MakeOracle | None = None
    version: int = 1
    chunk = None

    def __post_init__(self) -> None:
        norms.check("R+FGSM", self.threat.norm, ("linf",))
        if not 0 <= self.alpha < 1:
            raise BenchError(f"attack.alpha={self.alpha} is the random step's share of eps: it must lie in [0, 1)")
        if self.loss not in LOSSES:
            raise BenchError(f"attack.loss={self.loss} is unknown{nearest(self.loss, LOSSES)}")

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        eps, live = self.threat.radius, torch.ones_like(rows.y, dtype=torch.bool)
        start = (x + self.alpha * eps * normal(rows.key, *x.shape[1:]).sign()).clamp(0, 1)
        slope = oracle(start, rows, self.loss, live).grad
        image = norms.project(x, start - (1 - self.alpha) * eps * slope.sign(), "linf", eps)
        return Found(image, torch.zeros_like(rows.y))
