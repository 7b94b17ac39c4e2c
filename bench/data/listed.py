"""Pictures of one's own: a folder a class, or a CSV of paths and labels."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from bench.core.errors import BenchError, nearest
from bench.data.checks import checked_labels, known
from bench.data.folder import PICTURES, Folder
from bench.data.pictures import View


def class_folders(
    root: str | Path | None,
    split: str,
    folders: Mapping[str, str | None],
    classes: int,
    channels: int = 3,
    resize: int | Sequence[int] | None = None,
    crop: int | None = None,
    class_list: Sequence[str] | None = None,
) -> Folder:
    """`folders`: split -> a folder (below root, or absolute) with one folder of pictures a class. Labels follow class_list, else
    the names in sorted order, as torchvision's ImageFolder has them. Raises BenchError where the two differ."""
    place = _place(root, split, folders)
    names = sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []
    order = list(names if class_list is None else class_list)
    if len(names) != classes or sorted(order) != names:
        what = f"class folders {', '.join(names[:5]) or 'none'}{', …' if len(names) > 5 else ''}"
        raise BenchError(
            f"{place} has {len(names)} {what}; dataset.classes={classes}, one folder a class, "
            "each once in class_list where that is set"
        )
    found = [
        (str(file.relative_to(place)), label)
        for label, name in enumerate(order)
        for file in sorted((place / name).rglob("*"))
        if file.suffix.lower() in PICTURES
    ]
    return _folder(place, found, classes, View(channels, resize, crop))


def csv_of_paths(
    root: str | Path | None,
    split: str,
    files: Mapping[str, str | None],
    classes: int,
    path: str = "path",
    label: str = "label",
    channels: int = 3,
    resize: int | Sequence[int] | None = None,
    crop: int | None = None,
    class_list: Sequence[str] | None = None,
) -> Folder:
    """`files`: split -> a CSV whose columns `path` (from the CSV's folder, or absolute) and `label` say what is what. Labels are
    whole numbers, or names of class_list."""
    file = _place(root, split, files)
    if not file.is_file():
        raise BenchError(f"no data at {file}; correct dataset.source.files, or set BENCH_DATA or dataset.root")
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for name in (path, label):
        if rows and name not in rows[0]:
            raise BenchError(f"{file} has no column {name}{nearest(name, rows[0])}")
    numbers = {name: i for i, name in enumerate(class_list or [])}
    found = []
    for i, row in enumerate(rows):
        text = row[label].strip()
        if text not in numbers and not text.isdecimal():
            hint = (
                nearest(text, numbers)
                if numbers
                else "; labels are whole numbers, or names in dataset.source.class_list"
            )
            raise BenchError(f"{file}: line {i + 2} has label {text!r}{hint}")
        found.append((row[path], numbers[text] if text in numbers else int(text)))
    return _folder(file.parent, found, classes, View(channels, resize, crop))


def _place(root: str | Path | None, split: str, named: Mapping[str, str | None]) -> Path:
    name = named[known("split", split, named)]
    if name is None:
        raise BenchError(
            f"this data set names no {split} images; set dataset.source.folders.{split} (or files.{split})"
        )
    return Path(root or "").expanduser() / Path(name).expanduser()


def _folder(place: Path, found: list[tuple[str, int]], classes: int, view: View) -> Folder:
    if not found:
        raise BenchError(
            f"{place} has no pictures ({', '.join(sorted(PICTURES))}); put them there, or set dataset.root"
        )
    labels = checked_labels(np.array([label for _, label in found]), classes, str(place))
    shape = view.decode(place / found[0][0], str(place / found[0][0])).shape
    return Folder(place, [name for name, _ in found], labels, torch.arange(len(found)), view, shape)
