"""Encoded images to uint8 tensors of one size, decoded only when asked for; what parquet and folders share."""

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.core.errors import BenchError, one_line

Content = bytes | Path
# What PIL raises on damaged files, found by damaging some: most are OSError, a few come from its parsers.
DAMAGED = (OSError, SyntaxError, ValueError, IndexError, struct.error, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class View:
    """How a picture becomes pixels: the sizes and rounding of torchvision's Resize and CenterCrop on PIL images."""

    channels: int  # 1 = grey, 3 = RGB; pictures of another mode are converted
    resize: int | Sequence[int] | None  # a number = the shorter side; a pair = height and width, bent to fit
    crop: int | None  # a centred square

    def decode(self, content: Content, name: str) -> Tensor:
        """(C, H, W) uint8. Raises BenchError naming a picture that can't be decoded or is too small."""
        try:
            with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as picture:
                image = picture.convert("L" if self.channels == 1 else "RGB")
        except FileNotFoundError:
            raise BenchError(f"{name} is missing; fetch it anew") from None
        except Image.UnidentifiedImageError:
            raise BenchError(f"{name} is no image that PIL knows; fetch it anew") from None
        except DAMAGED as error:
            raise BenchError(f"{name} is a damaged image ({one_line(error)[:80]}); fetch it anew") from None
        if self.resize is not None:
            image = image.resize(self._size(image.width, image.height), Image.Resampling.BILINEAR)
        if self.crop is not None:
            image = self._cropped(image, name)
        pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
        return pixels[None] if self.channels == 1 else pixels.permute(2, 0, 1)

    def _size(self, width: int, height: int) -> tuple[int, int]:
        if not isinstance(self.resize, int):
            rows, columns = self.resize or (height, width)
            return columns, rows
        short, long = min(width, height), int(self.resize * max(width, height) / min(width, height))
        return (self.resize, long) if width == short else (long, self.resize)

    def _cropped(self, image: Image.Image, name: str) -> Image.Image:
        crop = self.crop or 0
        if min(image.width, image.height) < crop:
            raise BenchError(
                f"{name} is {image.height} x {image.width}, less than the crop of {crop}; set dataset.source.resize"
            )
        left, top = round((image.width - crop) / 2), round((image.height - crop) / 2)
        return image.crop((left, top, left + crop, top + crop))

    def stack(self, pictures: Sequence[tuple[Content, str]], shape: Sequence[int]) -> Tensor:
        """(n, C, H, W) uint8 of (content, name) pairs. Raises BenchError naming the first that isn't of `shape`."""
        pixels = torch.empty(len(pictures), *shape, dtype=torch.uint8)
        for row, (content, name) in enumerate(pictures):
            image = self.decode(content, name)
            if image.shape != pixels.shape[1:]:
                raise BenchError(
                    f"{name} is {tuple(image.shape)}, but the first image is {tuple(shape)}; "
                    "set dataset.source.resize and crop, or take it out"
                )
            pixels[row] = image
        return pixels
