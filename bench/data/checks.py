"""What every reader of data refuses, each in one line."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.core.errors import BenchError, nearest


def known(what: str, name: str, names: Iterable[str]) -> str:
    """Raises BenchError with the nearest right name where `name` is none of them."""
    if name not in (names := list(names)):
        raise BenchError(f"{what}={name} is unknown{nearest(str(name), names)}")
    return name


def folder_of(root: str | Path | None) -> Path:
    """Raises BenchError where the person has named no folder."""
    if not root or not str(root).strip():
        raise BenchError("this data set is read from a folder; set BENCH_DATA=<folder> or dataset.root=<folder>")
    return Path(root).expanduser()


def checked_labels(labels: np.ndarray, classes: int, where: str) -> Tensor:
    """(N,) int64 in 0..classes-1. Raises BenchError naming the first that isn't, and where there are none at all."""
    if not len(labels):
        raise BenchError(f"{where} holds no images; fetch it anew")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise BenchError(
            f"{where}: sample {wrong[0]} has label {labels[wrong[0]]}, outside 0..{classes - 1}; "
            "take the split with labels, or correct classes in the data set's YAML"
        )
    return torch.from_numpy(labels.astype(np.int64))


def check_count(found: int, images: Mapping[str, int] | None, split: str, where: str) -> None:
    """A data set copied by half looks like a small one; `images` (split -> number, null = any) tells them apart."""
    if images is not None and split in images and found != images[split]:
        raise BenchError(
            f"{where} has {found} images, not {images[split]}: copied by half? "
            "Complete it, or set dataset.source.images=null for a subset"
        )
