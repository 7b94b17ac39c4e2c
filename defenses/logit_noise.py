"""Gaussian noise on the logits, and nothing else: the audit's control for a defence that claims to help because its logits move
far (the UniG paper's "logits difference"). With `std` = that distance / sqrt(classes) its logits move as far, by chance.
"""

from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw, normal
from defenses.base import Defense, Traits


class LogitNoise(Defense):
    """std: of each of a sample's K logits, drawn anew at every query; they move by std * sqrt(K), root mean square."""

    traits = Traits(stochastic=True)

    def __init__(self, model: nn.Module, std: float, version: int = 1) -> None:
        super().__init__(model, version)
        if std <= 0:
            raise BenchError(f"defense.std={std} is a standard deviation: it must be positive")
        self.std = std

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        logits = self.model(x)
        return logits + self.std * normal(draw.key(), logits.shape[1])
