"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST in torchvision's layouts: found below the root, else downloaded there.

Fashion-MNIST also straight from Debian's package dataset-fashion-mnist: gzipped idx files in share/datasets/fashion-mnist.
"""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from bench.data.pictures import checked_labels, folder_of
from bench.errors import BenchError, nearest, one_line

SPLITS = ("train", "test")
CIFAR = {"CIFAR10": (datasets.CIFAR10, 10), "CIFAR100": (datasets.CIFAR100, 100)}
IDX = {"MNIST": "MNIST/raw", "FashionMNIST": "FashionMNIST/raw"}
DEBIAN = "share/datasets/fashion-mnist"  # below /usr


@dataclass(frozen=True)
class Arrays:
    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor
    ids: Tensor

    def pixels(self, ids: Tensor) -> Tensor:
        return self.images[ids]

    def digest(self) -> str:
        return hashlib.sha256(self.images.numpy().tobytes() + self.labels.numpy().tobytes()).hexdigest()


def cifar(root: str | Path | None, split: str, name: str) -> Arrays:
    """`name`: CIFAR10 or CIFAR100. The files are pickles, so torchvision's md5 sums are checked before any is opened."""
    _known(split, SPLITS, "split")
    folder, (kind, classes) = folder_of(root), CIFAR[_known(name, CIFAR, "name")]
    data = _open(kind, folder, split, folder / kind.base_folder, kind.url)
    labels = checked_labels(np.asarray(data.targets), classes, str(folder / kind.base_folder))
    return Arrays(torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(), labels, torch.arange(len(labels)))


def idx(root: str | Path | None, split: str, name: str) -> Arrays:
    """`name`: MNIST or FashionMNIST; idx files, gzipped or not, in torchvision's folder, Debian's, or the root itself."""
    _known(split, SPLITS, "split")
    folder, below = folder_of(root), IDX[_known(name, IDX, "name")]
    stem = "t10k" if split == "test" else "train"
    places = [folder / below, folder / DEBIAN, folder / "fashion-mnist", folder] if name == "FashionMNIST" else [folder / below, folder]
    images = _find(places, f"{stem}-images-idx3-ubyte")
    if images is None:
        kind = getattr(datasets, name)
        _open(kind, folder, split, folder / below, f"the four idx files of {name}")
        images = folder / below / f"{stem}-images-idx3-ubyte"
    labels = _find([images.parent], f"{stem}-labels-idx1-ubyte")
    if labels is None:
        raise BenchError(f"{images} has no {stem}-labels-idx1-ubyte beside it; fetch both files")
    pixels, classes = _read_idx(images, 3), _read_idx(labels, 1)
    if len(pixels) != len(classes):
        raise BenchError(f"{images} has {len(pixels)} images but {len(classes)} labels; fetch both files anew")
    return Arrays(torch.from_numpy(pixels)[:, None], checked_labels(classes, 10, str(labels)), torch.arange(len(classes)))


def _known(name: str, names: Any, what: str) -> str:
    if name not in names:
        raise BenchError(f"{what}={name} is unknown{nearest(name, names)}")
    return name


def _open(kind: Any, folder: Path, split: str, place: Path, origin: str) -> Any:
    """The torchvision data set, downloaded if its files are not whole. torchvision checks md5 sums before it opens a file."""
    try:
        return kind(str(folder), train=split == "train", download=not _whole(kind, folder, split))
    except Exception as error:  # torchvision raises RuntimeError, URLError, EOFError, OSError...
        raise BenchError(
            f"{kind.__name__} is not whole at {place} and could not be downloaded ({one_line(error)[:100]}); put {origin} there"
        ) from None


def _whole(kind: Any, folder: Path, split: str) -> bool:
    try:
        kind(str(folder), train=split == "train", download=False)
    except Exception:  # any fault means: not whole
        return False
    return True


def _find(places: list[Path], name: str) -> Path | None:
    candidates = [place / (name + ending) for place in places for ending in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)


def _read_idx(path: Path, axes: int) -> np.ndarray:
    """uint8 idx: two zero bytes, type 8, number of axes, big-endian lengths, then the values."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BenchError(f"{path} is half-written or no gzip file ({one_line(error)[:80]}); fetch it anew") from None
    head = 4 + 4 * axes
    shape = tuple(int(v) for v in np.frombuffer(content[4:head], dtype=">u4")) if len(content) >= head else ()
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) != head + int(np.prod(shape)):
        raise BenchError(f"{path} is half-written or no idx file of {axes} axes; fetch it anew")
    return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(shape).copy()
