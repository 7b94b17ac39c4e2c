"""No defence: the bare network, the reference of every table."""

from torch import Tensor

from bench.core.rng import Draw
from defenses.base import Defense


class Undefended(Defense):
    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self.model(x)
