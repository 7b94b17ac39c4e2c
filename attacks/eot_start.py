"""PGD on f alone around E g(x), the mean image that a transformation defence makes ("One Man's Trash ...", section 4.2).

The paper starts there, finds that the images have artefacts (E g(x) lies far outside the ball) and drops the attack. Here the
perturbation that fools f at E g(x) is put on the image itself, so that what is sent lies in the ball.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import norms
from attacks.base import Found, MakeOracle, Rows
from attacks.losses import LOSSES
from attacks.oracles.moved import Moved
from bench.core.errors import BenchError, nearest
from bench.core.threat import Threat


@dataclass(frozen=True)
class EotStart:
    """samples: draws of g in the mean; step: as a share of eps. Raises BenchError for norms other than linf and for settings that
    make no sense."""

    threat: Threat
    samples: int
    steps: int
    step: float
    loss: str
    oracle: MakeOracle | None = None
    version: int = 1
    chunk = None

    def __post_init__(self) -> None:
        norms.check("the attack from E g(x)", self.threat.norm, ("linf",))
        if self.loss not in LOSSES:
            raise BenchError(f"attack.loss={self.loss} is unknown{nearest(self.loss, LOSSES)}")
        if self.samples < 1 or self.steps < 1 or self.step <= 0:
            raise BenchError(
                f"attack.samples={self.samples}, attack.steps={self.steps}, attack.step={self.step}: the first two are at "
                "least 1, the step positive"
            )

    def __call__(self, oracle: Moved, x: Tensor, rows: Rows) -> Found:
        mean, eps = oracle.mean(x, rows, self.samples), self.threat.radius
        everyone, delta = torch.ones_like(rows.y, dtype=torch.bool), torch.zeros_like(x)
        for _ in range(self.steps):
            grad = oracle((mean + delta).clamp(0, 1), rows, self.loss, everyone).grad
            delta = (delta - self.step * eps * grad.sign()).clamp(-eps, eps)
        return Found(norms.project(x, x + delta, self.threat.norm, eps), torch.zeros_like(rows.y))
