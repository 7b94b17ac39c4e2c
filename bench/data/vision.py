"""CIFAR-10, CIFAR-100, MNIST and Fashion-MNIST in torchvision's layouts: found below the root, else downloaded there.

Fashion-MNIST also straight from Debian's package dataset-fashion-mnist: gzipped files in share/datasets/fashion-mnist.
"""

import gzip
import hashlib
import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from bench.core.errors import BenchError, one_line
from bench.data.checks import checked_labels, folder_of, known

SPLITS = {"train": "train", "test": "t10k"}  # and what idx files call them
CIFAR = {"CIFAR10": (datasets.CIFAR10, 10), "CIFAR100": (datasets.CIFAR100, 100)}
IDX = {  # where the files may lie below the root, torchvision's place first; the root's `/usr` is Debian's
    "MNIST": (datasets.MNIST, ["MNIST/raw", "."]),
    "FashionMNIST": (
        datasets.FashionMNIST,
        ["FashionMNIST/raw", "share/datasets/fashion-mnist", "fashion-mnist", "."],
    ),
}
# Of the files unzipped, as the two data sets use the same names and Debian zips anew (its content has these sums).
MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}


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
    """`name`: CIFAR10 or CIFAR100. The files are pickles, so none is opened before the md5 sums of all are right."""
    known("split", split, SPLITS)
    kind, classes = CIFAR[known("name", name, CIFAR)]
    folder = folder_of(root)
    place = folder / kind.base_folder
    sums = dict(kind.train_list + kind.test_list) | {kind.meta["filename"]: kind.meta["md5"]}
    _verify(place, sums, name)
    if any(not (place / file).is_file() for file in sums):
        _download(kind, folder, place, f"{kind.url} unpacked")
        _verify(place, sums, name)
    data = kind(str(folder), train=split == "train", download=False)
    labels = checked_labels(np.asarray(data.targets), classes, str(place))
    return Arrays(torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(), labels, torch.arange(len(labels)))


def idx(root: str | Path | None, split: str, name: str) -> Arrays:
    """`name`: MNIST or FashionMNIST; idx files, gzipped or not, in one of the places that IDX lists."""
    stem = SPLITS[known("split", split, SPLITS)]
    kind, below = IDX[known("name", name, IDX)]
    folder, wanted = folder_of(root), [f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"]
    places = [folder / part for part in below]
    if (files := _find(places, wanted)) is None:
        _download(kind, folder, places[0], "its four idx files, gzipped or not,")
        files = _find(places[:1], wanted)
    if files is None:
        raise BenchError(f"{places[0]} lacks {wanted[0]} or {wanted[1]}; put both there")
    pixels, classes = (_read_idx(file, 3 - 2 * i, name, wanted[i]) for i, file in enumerate(files))
    labels = checked_labels(classes, 10, str(files[1]))
    if len(pixels) != len(labels):
        raise BenchError(f"{files[0]} has {len(pixels)} images but {len(labels)} labels; fetch both files anew")
    return Arrays(torch.from_numpy(pixels)[:, None], labels, torch.arange(len(labels)))


def _verify(place: Path, sums: dict[str, str], name: str) -> None:
    """Raises BenchError for a file that is there but not torchvision's."""
    for file, md5 in sums.items():
        if (place / file).is_file() and (found := _md5((place / file).read_bytes())) != md5:
            raise BenchError(
                f"{place / file} is half-written or not from {name} (md5 {found}, not {md5}); "
                "nothing was read from it: delete it to have it downloaded, or put a whole copy there"
            )


def _download(kind: Any, folder: Path, place: Path, what: str) -> None:
    """torchvision's own download, into a folder of this process's own: a failure or a second process leaves no mess."""
    part = folder / f".tmp-{os.getpid()}-{kind.__name__}"
    if not folder.is_dir():  # likelier a slip in the name than a wish
        raise BenchError(f"the folder {folder} does not exist; make it, or correct BENCH_DATA or dataset.root")
    try:
        part.mkdir()
        kind(str(part), download=True)
        place.mkdir(parents=True, exist_ok=True)
        for file in (part / place.relative_to(folder)).iterdir():
            file.replace(place / file.name)
    except Exception as error:  # torchvision raises RuntimeError, URLError, EOFError, OSError...
        why = one_line(error)[:100]
        raise BenchError(
            f"{kind.__name__} is not whole at {place} and could not be downloaded ({why}); "
            f"put {what} there, or set BENCH_DATA or dataset.root to the folder that has it"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _find(places: list[Path], names: list[str]) -> list[Path] | None:
    """The files of these names, gzipped or not, in the first place that has them all."""
    for place in places:
        files = [next((f for f in (place / name, place / f"{name}.gz") if f.is_file()), None) for name in names]
        if None not in files:
            return [file for file in files if file is not None]
    return None


def _read_idx(path: Path, axes: int, name: str, known_as: str) -> np.ndarray:
    """uint8 idx: two zero bytes, type 8, number of axes, big-endian lengths, then the values."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BenchError(f"{path} is half-written or no gzip file ({one_line(error)[:80]}); fetch it anew") from None
    head = 4 + 4 * axes
    shape = tuple(int(v) for v in np.frombuffer(content[4:head], dtype=">u4")) if len(content) >= head else ()
    if content[:4] != bytes([0, 0, 8, axes]) or len(content) != head + int(np.prod(shape)):
        raise BenchError(f"{path} is half-written or no idx file of {axes} axes; fetch it anew")
    if (found := _md5(content)) != (md5 := MD5[name][known_as]):
        raise BenchError(f"{path} is damaged or not from {name} (md5 of its content {found}, not {md5}); fetch it anew")
    return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(shape).copy()
