"""ImageNet and Tiny ImageNet as folders of pictures. Labels are the index of the synset in sorted order."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.data.pictures import checked_labels, decode, folder_of, stack
from bench.errors import BenchError, nearest

PICTURES = {".jpeg", ".jpg", ".png"}


@dataclass(frozen=True)
class Folder:
    place: Path
    files: list[Path]
    labels: Tensor
    ids: Tensor
    resize: int | Sequence[int] | None
    crop: int | None

    def pixels(self, ids: Tensor) -> Tensor:
        files = [self.files[row] for row in ids.tolist()]
        images = [decode(file, str(file), 3, self.resize, self.crop) for file in files]
        return stack(images, [str(file) for file in files])

    def digest(self) -> str:
        """Of names and sizes: reading 6 GB at every start would say little more."""
        names = (f"{file.relative_to(self.place)} {file.stat().st_size}\n" for file in self.files)
        return hashlib.sha256("".join(names).encode()).hexdigest()


def imagenet(
    root: str | Path | None, split: str, classes: int, resize: int | Sequence[int] | None = None, crop: int | None = None
) -> Folder:
    """<root>/imagenet/{train,val}/<synset>/*.JPEG; `test` is val."""
    place = _place(folder_of(root), "imagenet") / _folder_name(split)
    synsets = sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
    if len(synsets) != classes:
        raise BenchError(f"{place} has {len(synsets)} class folders, not {classes}; put ImageNet there, one folder a synset")
    found = [(file, label) for label, synset in enumerate(synsets) for file in _pictures(place / synset)]
    return _folder(place, found, classes, resize, crop)


def tiny_imagenet(
    root: str | Path | None, split: str, classes: int, resize: int | Sequence[int] | None = None, crop: int | None = None
) -> Folder:
    """<root>/tiny-imagenet-200 in the official layout: wnids.txt, train/<synset>/images, val/images + val_annotations.txt."""
    place = _place(folder_of(root), "tiny-imagenet-200")
    index = {synset: label for label, synset in enumerate(sorted(_lines(place / "wnids.txt")))}
    if _folder_name(split) == "train":
        found = [(file, label) for synset, label in index.items() for file in _pictures(place / "train" / synset / "images")]
    else:
        rows = [line.split("\t") for line in _lines(place / "val" / "val_annotations.txt")]
        unknown = next((row for row in rows if len(row) < 2 or row[1] not in index), None)
        if unknown:
            raise BenchError(f"{place / 'val/val_annotations.txt'}: {unknown[:2]} names no synset of wnids.txt; fetch it anew")
        found = sorted((place / "val" / "images" / row[0], index[row[1]]) for row in rows)
    return _folder(place, found, classes, resize, crop)


def _place(root: Path, name: str) -> Path:
    """The data set's folder below the root, or the root itself where it is that folder."""
    return root / name if (root / name).is_dir() else root


def _folder_name(split: str) -> str:
    names = {"train": "train", "test": "val", "val": "val"}
    if split not in names:
        raise BenchError(f"split={split} is unknown{nearest(split, names)}")
    return names[split]


def _folder(place: Path, found: list[tuple[Path, int]], classes: int, resize: int | Sequence[int] | None, crop: int | None) -> Folder:
    if not found:
        raise BenchError(f"no pictures below {place}; put the data set there, or set BENCH_DATA or dataset.root")
    labels = checked_labels(np.array([label for _, label in found]), classes, str(place))
    return Folder(place, [file for file, _ in found], labels, torch.arange(len(found)), resize, crop)


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURES) if folder.is_dir() else []


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise BenchError(f"no data at {file}; put the data set there, or set BENCH_DATA or dataset.root")
    return [line for line in file.read_text().splitlines() if line.strip()]
