"""Encoded images to uint8 tensors of one size, decoded only when asked for; what parquet and folders share."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bench.errors import BenchError


def decode(content: bytes | Path, name: str, channels: int, resize: int | Sequence[int] | None, crop: int | None) -> Tensor:
    """(C, H, W) uint8. resize: a number = the shorter side, a pair = height and width as they are, null = as stored;
    crop = a centred square. Raises BenchError naming a picture that can't be read.
    """
    try:
        with Image.open(content if isinstance(content, Path) else io.BytesIO(content)) as picture:
            image = picture.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise BenchError(f"{name} is no readable image ({' '.join(str(error).split())[:80]}); fetch it anew") from None
    if resize is not None:
        image = image.resize(_size(image, resize), Image.Resampling.BILINEAR)
    if crop is not None:
        left, top = round((image.width - crop) / 2), round((image.height - crop) / 2)
        image = image.crop((left, top, left + crop, top + crop))
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1)


def _size(image: Image.Image, resize: int | Sequence[int]) -> tuple[int, int]:
    if not isinstance(resize, int):
        return int(resize[1]), int(resize[0])
    scale = resize / min(image.width, image.height)
    return max(resize, round(image.width * scale)), max(resize, round(image.height * scale))


def stack(images: list[Tensor], names: list[str]) -> Tensor:
    """(n, C, H, W). Raises BenchError naming the first picture of another size."""
    for image, name in zip(images, names, strict=True):
        if image.shape != images[0].shape:
            raise BenchError(
                f"{name} is {tuple(image.shape)}, others are {tuple(images[0].shape)}; set dataset.source.resize and crop"
            )
    return torch.stack(images)


def checked_labels(labels: np.ndarray, classes: int, where: str) -> Tensor:
    """(N,) int64 in 0..classes-1. Raises BenchError naming the first that isn't."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise BenchError(f"{where}: row {wrong[0]} has label {labels[wrong[0]]}, outside 0..{classes - 1}; correct dataset.classes")
    return torch.from_numpy(labels.astype(np.int64))


def folder_of(root: str | Path | None) -> Path:
    """Raises BenchError where the person has named no folder."""
    if root is None:
        raise BenchError("this data set is read from a folder of yours; set BENCH_DATA=<folder> or dataset.root=<folder>")
    return Path(root).expanduser()
