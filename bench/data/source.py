"""What a data set is: images by row, labels, and stable sample numbers."""

from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from bench.core.errors import BenchError, nearest

Order = Literal["first", "seeded", "per_class"]


class Source(Protocol):
    """One split of one data set. Images stay uint8 on the host and are decoded only when asked for."""

    labels: Tensor  # (N,) int64
    ids: Tensor  # (N,) int64, the sample numbers of the data set's revision

    def pixels(self, ids: Tensor) -> Tensor:
        """rows (n,) -> (n, C, H, W) uint8, or float32 in [0, 1]."""
        ...

    def digest(self) -> str:
        """sha256 of the content."""
        ...


def to_float(pixels: Tensor, device: torch.device) -> Tensor:
    """uint8 -> float32 in [0, 1] on the device: the one place that divides by 255. Arrays of float32 are in [0, 1] already."""
    if pixels.dtype == torch.float32:
        return pixels.to(device)
    if pixels.dtype != torch.uint8:
        raise TypeError(f"pixels are uint8 until here, not {pixels.dtype}")  # divided twice, they would be almost black
    return pixels.to(device).float().div_(255)


def order(labels: Tensor, kind: str, seed: int) -> Tensor:
    """(N,) rows in a cell's order. per_class takes one of each class in turn, in hashed order inside a class."""
    n = len(labels)
    if kind == "first":
        return torch.arange(n)
    rank = _hash(np.arange(n, dtype=np.uint64), seed)
    shuffled = np.argsort(rank, kind="stable")
    if kind == "seeded":
        return torch.from_numpy(shuffled)
    if kind == "per_class":
        classes = labels.numpy()[shuffled]
        turn = np.zeros(n, dtype=np.int64)
        for label in np.unique(classes):
            at = classes == label
            turn[at] = np.arange(at.sum())
        return torch.from_numpy(shuffled[np.lexsort((classes, turn))])
    raise BenchError(f"samples.order={kind} is unknown{nearest(kind, ['first', 'seeded', 'per_class'])}")


def _hash(number: np.ndarray, seed: int) -> np.ndarray:
    """splitmix64 of (seed, number): no library's generator, so the order is stable for ever."""
    with np.errstate(over="ignore"):
        z = number + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & (2**64 - 1))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        return z ^ (z >> np.uint64(31))
