"""Median smoothing (Xu et al. 2018, "Feature Squeezing", section III-B1): each pixel becomes the median of its window."""

from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.core.rng import Draw
from defenses.base import Traits
from defenses.preprocessed import Preprocessed


class Median(Preprocessed):
    """A window of `size` x `size` pixels, odd, each channel on its own; borders are mirrored. Raises BenchError for an even one.
    Its gradient is the true one almost everywhere: it goes to the pixel that the median is."""

    traits = Traits()

    def __init__(self, model: nn.Module, size: int, version: int = 1) -> None:
        super().__init__(model, version)
        if size < 1 or size % 2 == 0:
            raise BenchError(f"defense.size={size} must be odd and at least 1")
        self.size = size

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        half = self.size // 2
        if half >= min(x.shape[-2:]):
            raise BenchError(
                f"defense.size={self.size} is too large for images of {x.shape[-2]} x {x.shape[-1]} pixels"
            )
        wide = F.pad(x, (half, half, half, half), mode="reflect")
        windows = wide.unfold(2, self.size, 1).unfold(3, self.size, 1)
        return windows.flatten(-2).median(-1).values
