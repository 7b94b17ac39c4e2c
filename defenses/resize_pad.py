"""Random resizing and padding (Xie et al. 2018, "Mitigating Adversarial Effects Through Randomization", section 4).

The paper enlarges the canvas (299 pixels become 310 to 331 within 331). Networks here have one input size, so the image shrinks
within it instead: a side of r pixels, r uniform between `least` times the side and the side, at a place drawn at random, the
rest zero.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.core.rng import Draw, bits, integers
from defenses.base import Traits
from defenses.preprocessed import Preprocessed


class ResizePad(Preprocessed):
    """Raises BenchError for `least` outside (0, 1]."""

    traits = Traits(stochastic=True)

    def __init__(self, model: nn.Module, least: float, version: int = 1) -> None:
        super().__init__(model, version)
        if not 0 < least <= 1:
            raise BenchError(f"defense.least={least} must lie in (0, 1]: the smallest share of the side that is kept")
        self.least = least
        self.traits = Traits(stochastic=least < 1)

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        word = bits(draw.key(), 3)
        share, grids, inside = word[:, 0], [], []
        for axis, side in enumerate(x.shape[-2:]):
            smallest = math.ceil(self.least * side)
            size = smallest + integers(share, side - smallest + 1)  # one word for both: the image keeps its form
            start = integers(word[:, 1 + axis], side - size + 1)
            at = torch.arange(side, device=x.device)[None] - start[:, None]  # (B,side) in pixels of the small image
            inside.append((at >= 0) & (at < size[:, None]))
            grids.append((2 * at + 1).float() / size[:, None] - 1)  # where that lies in the whole one, -1 to 1
        rows, columns = grids
        grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), dim=-1)
        small = F.grid_sample(x, grid.to(x.dtype), mode="bilinear", padding_mode="border", align_corners=False)
        return small * (inside[0][:, None, :, None] & inside[1][:, None, None, :])
