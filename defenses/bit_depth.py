"""Fewer bits a pixel (Xu et al. 2018, "Feature Squeezing", section III-A1)."""

from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw
from defenses.preprocessed import Preprocessed


class BitDepth(Preprocessed):
    """Each channel is rounded to `bits` bits. Raises BenchError for less than one."""

    def __init__(self, model: nn.Module, bits: int, version: int = 1) -> None:
        super().__init__(model, version)
        if not 1 <= bits <= 8:
            raise BenchError(f"defense.bits={bits} must lie between 1 and 8")
        self.steps = 2**bits - 1

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        return (x * self.steps).round() / self.steps
