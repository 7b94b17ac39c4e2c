"""ImageNet and Tiny ImageNet as folders of pictures. Labels follow the synsets in sorted order, or the class numbers."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.data.checks import check_count, checked_labels, folder_of, known
from bench.data.pictures import View

SYNSET, NUMBER = re.compile(r"n\d{8}"), re.compile(r"\d+")
KEEP, HEAD = 2**30, 2**12
PICTURES = {".jpeg", ".jpg", ".png"}
FOLDERS = {"train": "train", "test": "val"}  # split -> folder: the official test images have no public labels
Found = list[tuple[str, int]]  # file below the place, and its label


@dataclass(frozen=True)
class Folder:
    place: Path
    files: list[str]  # below the place
    labels: Tensor
    ids: Tensor
    view: View
    shape: Sequence[int]  # of the first image, and so of every other

    def pixels(self, ids: Tensor) -> Tensor:
        files = [self.place / self.files[row] for row in ids.tolist()]
        return self.view.stack([(file, str(file)) for file in files], self.shape)

    def digest(self) -> str:
        """Of names, labels, sizes and content; above KEEP bytes of each picture's first HEAD bytes, as reading ImageNet at every
        start would take minutes."""
        whole, sizes = hashlib.sha256(), [(self.place / name).stat().st_size for name in self.files]
        read = None if sum(sizes) <= KEEP else HEAD
        for name, label, size in zip(self.files, self.labels.tolist(), sizes, strict=True):
            with (self.place / name).open("rb") as stream:
                whole.update(f"{name} {label} {size}\n".encode() + hashlib.sha256(stream.read(read)).digest())
        return whole.hexdigest()


def imagenet(
    root: str | Path | None,
    split: str,
    classes: int,
    resize: int | Sequence[int] | None = None,
    crop: int | None = None,
    images: Mapping[str, int] | None = None,
    class_list: str | None = None,
) -> Folder:
    """<root>/imagenet/{train,val}/<class>/*.JPEG, or the same in the root itself; the split `test` is val.

    Folders named by synset (n01440764) or by number (0, 1, ... 999) have an order of their own. class_list: for any other names,
    a text file beside train and val with the name of one folder a line, in the order of the labels. Raises BenchError where the
    order of the classes can't be known: sorted as text, 10 comes before 2 and most labels are wrong without a word.
    """
    home = _place(folder_of(root), "imagenet")
    place = home / FOLDERS[known("split", split, FOLDERS)]
    names = sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
    if len(names) != classes:
        raise BenchError(
            f"{place} has {len(names)} class folders, not {classes}; put ImageNet there, one folder of pictures "
            "a synset, or set BENCH_DATA or dataset.root"
        )
    ordered = in_order(place, names) if class_list is None else _listed(home / class_list, place, names)
    found = [pair for label, name in enumerate(ordered) for pair in _pictures(place, name, label)]
    return _folder(place, found, split, classes, View(3, resize, crop), images)


def in_order(place: Path, names: Sequence[str]) -> list[str]:
    """Class folders in the order of their labels. Raises BenchError for names that say nothing of it."""
    if all(SYNSET.fullmatch(name) for name in names):
        return sorted(names)
    if all(NUMBER.fullmatch(name) for name in names):
        if len({int(name) for name in names}) < len(names):
            raise BenchError(f"{place} has two class folders of one number; name each class once")
        return sorted(names, key=int)
    odd = next(name for name in names if not (SYNSET.fullmatch(name) or NUMBER.fullmatch(name)))
    raise BenchError(
        f"{place}: the class folder {odd!r} is neither a synset (n and 8 digits) nor a number, so its label is unknown; write "
        "the names in the order of the labels, one a line, into a file beside it and set +dataset.source.class_list=<that file>"
    )


def _listed(file: Path, place: Path, names: Sequence[str]) -> list[str]:
    listed = [line.strip() for line in _lines(file)]
    if sorted(listed) != sorted(names):
        wrong = sorted(set(names) ^ set(listed))[:3] or ["a name twice"]
        raise BenchError(f"{file} and the folders of {place} differ: {', '.join(wrong)}; list each folder once")
    return listed


def tiny_imagenet(
    root: str | Path | None,
    split: str,
    classes: int,
    resize: int | Sequence[int] | None = None,
    crop: int | None = None,
    images: Mapping[str, int] | None = None,
) -> Folder:
    """<root>/tiny-imagenet-200 as published: wnids.txt, train/<synset>/images, val/images and val_annotations.txt."""
    place = _place(folder_of(root), "tiny-imagenet-200")
    known("split", split, FOLDERS)
    index = {synset: label for label, synset in enumerate(sorted(set(_lines(place / "wnids.txt"))))}
    if len(index) != classes:
        raise BenchError(f"{place / 'wnids.txt'} names {len(index)} synsets, not {classes}; fetch it anew")
    if split == "train":
        found = [pair for synset, label in index.items() for pair in _pictures(place, f"train/{synset}/images", label)]
    else:
        found = _annotated(place, index)
    return _folder(place, found, split, classes, View(3, resize, crop), images)


def _annotated(place: Path, index: Mapping[str, int]) -> Found:
    """Tiny ImageNet's val: one line a picture, `name <tab> synset <tab> box`, in the order of the names."""
    file, there = place / "val" / "val_annotations.txt", {name for name, _ in _pictures(place, "val/images", 0)}
    found = []
    for line in _lines(file):
        name, _, rest = line.partition("\t")
        synset = rest.split("\t")[0]
        if synset not in index:
            raise BenchError(f"{file}: {line[:60]!r} names no synset of wnids.txt; fetch it anew")
        if f"val/images/{name}" not in there:
            raise BenchError(
                f"{place / 'val/images' / name} is missing, but val_annotations.txt names it; fetch it anew"
            )
        found.append((f"val/images/{name}", index[synset]))
    return sorted(found)


def _place(root: Path, name: str) -> Path:
    """The data set's folder below the root, or the root itself where it is that folder."""
    below = root / name
    return root if not below.is_dir() and any((root / part).exists() for part in ("val", "wnids.txt")) else below


def _folder(
    place: Path, found: Found, split: str, classes: int, view: View, images: Mapping[str, int] | None
) -> Folder:
    labels = checked_labels(np.array([label for _, label in found]), classes, f"{place} ({split})")
    check_count(len(found), images, split, f"{place} ({split})")
    shape = view.decode(place / found[0][0], str(place / found[0][0])).shape
    return Folder(place, [name for name, _ in found], labels, torch.arange(len(found)), view, shape)


def _pictures(place: Path, below: str, label: int) -> Found:
    """Raises BenchError where a folder of pictures is missing or empty: it was copied by half."""
    folder = place / below
    names = sorted(file.name for file in folder.iterdir() if file.suffix.lower() in PICTURES) if folder.is_dir() else []
    if not names:
        raise BenchError(f"no pictures in {folder}; put the data set there whole, or set BENCH_DATA or dataset.root")
    return [(f"{below}/{name}", label) for name in names]


def _lines(file: Path) -> list[str]:
    if not file.is_file():
        raise BenchError(f"no data at {file}; put the data set there, or set BENCH_DATA or dataset.root")
    return [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
