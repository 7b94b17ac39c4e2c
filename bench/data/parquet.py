"""Hugging Face's parquet layout: one column of encoded images as {bytes, path}, one of integer labels."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from bench.core.errors import BenchError, nearest, one_line
from bench.data.checks import check_count, checked_labels, folder_of, known
from bench.data.pictures import View

KEEP = 2**30  # bytes of encoded images held at most; CIFAR stays in memory, ImageNet is read a row group at a time
FOOTER = 2**20  # bytes at a file's end, where parquet describes its columns


@dataclass
class Column:
    """The encoded images of some files, row group by row group."""

    groups: list[tuple[Path, int, str]]  # file, number of the group in it, name of its column
    starts: list[int]  # each group's first row
    held: OrderedDict[int, pa.ChunkedArray] = field(default_factory=OrderedDict)

    def content(self, row: int) -> tuple[bytes, str]:
        """An encoded image and its name for errors."""
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        name = f"{self.groups[number][0]}: sample {row}"
        content = self._group(number)[row - self.starts[number]].as_py()
        if not content:
            raise BenchError(f"{name} has no bytes in the file, only a path at most; fetch a copy with embedded images")
        return content, name

    def _group(self, number: int) -> pa.ChunkedArray:
        if number not in self.held:
            file, index, name = self.groups[number]
            with _opened(file) as parquet_file:
                group = parquet_file.read_row_group(index, columns=[f"{name}.bytes"]).flatten()[f"{name}.bytes"]
            while self.held and group.nbytes + sum(other.nbytes for other in self.held.values()) > KEEP:
                self.held.popitem(last=False)
            self.held[number] = group
        self.held.move_to_end(number)
        return self.held[number]


@dataclass(frozen=True)
class Parquet:
    files: list[Path]
    column: Column
    labels: Tensor
    ids: Tensor
    view: View
    shape: Sequence[int]  # of the first image, and so of every other

    def pixels(self, ids: Tensor) -> Tensor:
        rows, turn = ids.sort()  # neighbours lie in one row group
        pixels = torch.empty(len(ids), *self.shape, dtype=torch.uint8)
        for start in range(0, len(rows), 1000):  # encoded bytes of 1000 images at once, not of a whole split
            some = slice(start, start + 1000)
            pixels[turn[some]] = self.view.stack([self.column.content(row) for row in rows[some].tolist()], self.shape)
        return pixels

    def digest(self) -> str:
        """Of the files' content; above KEEP bytes of their sizes, footers and labels, as reading it all would take minutes."""
        whole = hashlib.sha256()
        large = sum(file.stat().st_size for file in self.files) > KEEP
        for file in self.files:
            size = file.stat().st_size
            with file.open("rb") as stream:
                stream.seek(max(0, size - FOOTER) if large else 0)
                whole.update(f"{size} ".encode() + hashlib.file_digest(stream, "sha256").digest())
        if large:  # the labels lie before the footers
            whole.update(self.labels.numpy().tobytes())
        return whole.hexdigest()


def parquet(
    root: str | Path | None,
    split: str,
    files: Mapping[str, str],
    classes: int,
    channels: int = 3,
    image: str | None = None,
    label: str | None = None,
    resize: int | Sequence[int] | None = None,
    crop: int | None = None,
    images: Mapping[str, int] | None = None,
) -> Parquet:
    """`files`: split -> file or pattern below the root. Columns are found by their types where they are not named."""
    pattern, folder = files[known("split", split, files)], folder_of(root)
    found = [folder / name for name in sorted(glob(pattern, root_dir=folder))]
    if not found:
        raise BenchError(
            f"no data at {folder / pattern}; put the parquet file there, or set BENCH_DATA or dataset.root"
        )
    column, labels = Column([], []), []
    for file in found:
        with _opened(file) as parquet_file:
            schema = parquet_file.schema_arrow
            picture = _column(schema, image, _is_picture, file, "image")
            number = _column(schema, label, pa.types.is_integer, file, "label")
            rows = [parquet_file.metadata.row_group(i).num_rows for i in range(parquet_file.num_row_groups)]
            first = sum(len(some) for some in labels)
            column.groups += [(file, index, picture) for index in range(len(rows))]
            column.starts += [first + sum(rows[:index]) for index in range(len(rows))]
            labels.append(_labels(parquet_file, number, file))
    checked = checked_labels(np.concatenate(labels), classes, str(folder / pattern))
    check_count(len(checked), images, split, str(folder / pattern))
    view = View(channels, resize, crop)
    shape = view.decode(*column.content(0)).shape
    return Parquet(found, column, checked, torch.arange(len(checked)), view, shape)


@contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file) as parquet_file:
            yield parquet_file
    except (pa.ArrowException, OSError) as error:
        raise BenchError(f"{file} is half-written or no parquet file ({one_line(error)[:80]}); fetch it anew") from None


def _is_picture(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and any(kind.field(i).name == "bytes" for i in range(kind.num_fields))


def _column(schema: pa.Schema, name: str | None, fits: Callable[[pa.DataType], bool], file: Path, what: str) -> str:
    """The column named in the YAML, else the only one of a fitting type."""
    if name is not None and name not in schema.names:
        raise BenchError(f"{file} has no column {name}{nearest(name, schema.names)}")
    found = [column.name for column in schema if fits(column.type) and name in (None, column.name)]
    if len(found) != 1:
        columns = ", ".join(f"{column.name} {column.type}" for column in schema)[:200]
        raise BenchError(
            f"{file} has {len(found)} columns that could be the {what}, not 1 ({columns}); set dataset.source.{what}"
        )
    return found[0]


def _labels(parquet_file: pq.ParquetFile, name: str, file: Path) -> np.ndarray:
    column = parquet_file.read(columns=[name])[name]
    if column.null_count:
        raise BenchError(f"{file}: {column.null_count} samples have no {name}; take the split with labels")
    return column.to_numpy()
