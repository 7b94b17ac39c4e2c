"""JPEG compression (Dziugaite et al. 2016; Das et al. 2017; Guo et al. 2018): what the codec loses, without its lossless half.

Colours to YCbCr, chroma averaged over 2 x 2 pixels, 8 x 8 blocks by DCT, divided by the IJG tables at `quality`, rounded, and all
the way back, in tensors: it runs where the network does. In float64, so that no last bit decides a rounding.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.core.rng import Draw
from defenses.preprocessed import Preprocessed

LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87,
    80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMA = (
    17, 18, 24, 47, *(99,) * 4, 18, 21, 26, 66, *(99,) * 4, 24, 26, 56, *(99,) * 5, 47, 66, *(99,) * 38,
)  # fmt: skip
YCBCR = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


class Jpeg(Preprocessed):
    """`smooth`: BPDA through the whole codec, rounding by r + (x - r)^3 (Shin and Song 2017). Images have 1 or 3 channels.
    Raises BenchError for another `quality` than 1 to 100."""

    kinds = ("identity", "smooth")

    def __init__(self, model: nn.Module, quality: int, version: int = 1) -> None:
        super().__init__(model, version)
        if not 1 <= quality <= 100:
            raise BenchError(f"defense.quality={quality} must lie between 1 and 100")
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        device = next((each.device for each in model.parameters()), torch.device("cpu"))
        self.luma, self.chroma = (_steps(table, scale).to(device) for table in (LUMA, CHROMA))
        colours = torch.tensor(YCBCR, dtype=torch.float64)
        self.dct, self.colours, self.back = (each.to(device) for each in (_dct(), colours, colours.inverse()))

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        return self._codec(x, smooth=False)

    def approximate(self, x: Tensor, draw: Draw, kind: str) -> Tensor:
        if kind == "identity":
            return super().approximate(x, draw, kind)
        near = self._codec(x, smooth=True)
        return self.model(near + (self._codec(x.detach(), smooth=False) - near).detach())

    def _codec(self, x: Tensor, smooth: bool) -> Tensor:
        if x.shape[1] not in (1, 3):
            raise BenchError(f"JPEG takes images of 1 or 3 channels, not {x.shape[1]}")
        levels = _round(x.double() * 255, smooth)
        if x.shape[1] == 1:
            return self._written(self._blocks(levels - 128, self.luma, smooth) + 128, x, smooth)
        y, *chroma = torch.einsum("oc,bchw->bohw", self.colours, levels).split(1, 1)
        y = self._blocks(y - 128, self.luma, smooth) + 128
        height, width = x.shape[-2:]
        small = F.pad(torch.cat(chroma, 1), (0, width % 2, 0, height % 2), mode="replicate")
        small = self._blocks(F.avg_pool2d(small, 2), self.chroma, smooth)
        wide = F.interpolate(small, scale_factor=2, mode="nearest")[..., :height, :width]
        return self._written(torch.einsum("oc,bchw->bohw", self.back, torch.cat([y, wide], 1)), x, smooth)

    def _blocks(self, levels: Tensor, table: Tensor, smooth: bool) -> Tensor:
        """(B,c,h,w) around 0 -> what is left of it after division and rounding of its DCT."""
        height, width = levels.shape[-2:]
        whole = F.pad(levels, (0, -width % 8, 0, -height % 8), mode="replicate")
        blocks = whole.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # (B,c,rows,columns,8,8)
        kept = _round(self.dct @ blocks @ self.dct.T / table, smooth) * table
        again = (self.dct.T @ kept @ self.dct).transpose(3, 4).flatten(4, 5).flatten(2, 3)
        return again[..., :height, :width]

    def _written(self, levels: Tensor, x: Tensor, smooth: bool) -> Tensor:
        """Pixels of the type of x again."""
        return (_round(levels, smooth).clamp(0, 255) / 255).to(x.dtype)


def _steps(table: tuple[int, ...], scale: int) -> Tensor:
    """(8,8): the table at a quality, as the IJG's code has it."""
    return torch.tensor([min(max((each * scale + 50) // 100, 1), 255) for each in table], dtype=torch.float64).view(
        8, 8
    )


def _dct() -> Tensor:
    """(8,8) orthonormal DCT-II."""
    k, n = torch.meshgrid(torch.arange(8.0, dtype=torch.float64), torch.arange(8.0, dtype=torch.float64), indexing="ij")
    basis = torch.cos(math.pi * (2 * n + 1) * k / 16) / 2
    basis[0] /= math.sqrt(2)
    return basis


def _round(x: Tensor, smooth: bool) -> Tensor:
    whole = x.round()
    return whole.detach() + (x - whole.detach()) ** 3 if smooth else whole
