"""Hugging Face's parquet layout: one column of encoded images as {bytes, path}, one of integer labels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from bench.data.pictures import checked_labels, decode, folder_of, stack
from bench.errors import BenchError, nearest


@dataclass(frozen=True)
class Parquet:
    files: list[Path]
    encoded: pa.ChunkedArray  # (N,) structs {bytes, path}
    labels: Tensor
    ids: Tensor
    channels: int
    resize: int | Sequence[int] | None
    crop: int | None

    def pixels(self, ids: Tensor) -> Tensor:
        rows = ids.tolist()
        names = [f"{self.files[0].parent.name} row {row}" for row in rows]
        encoded = [self.encoded[row].as_py()["bytes"] or b"" for row in rows]
        images = [decode(b, name, self.channels, self.resize, self.crop) for b, name in zip(encoded, names, strict=True)]
        return stack(images, names)

    def digest(self) -> str:
        whole = hashlib.sha256()
        for file in self.files:
            with file.open("rb") as stream:
                whole.update(hashlib.file_digest(stream, "sha256").digest())
        return whole.hexdigest()


def parquet(
    root: str | Path | None,
    split: str,
    files: dict[str, str],
    classes: int,
    channels: int = 3,
    image: str | None = None,
    label: str | None = None,
    resize: int | Sequence[int] | None = None,
    crop: int | None = None,
) -> Parquet:
    """`files`: split -> file or glob below the root. Column names are found by their types where they are not given."""
    if split not in files:
        raise BenchError(f"this data set has no split {split}{nearest(split, files)}")
    folder = folder_of(root)
    found = sorted(folder.glob(files[split]))
    if not found:
        raise BenchError(f"no data at {folder / files[split]}; put the parquet file there, or set BENCH_DATA or dataset.root")
    tables = [_read(file, image, label) for file in found]
    encoded = pa.chunked_array([chunk for table in tables for chunk in table["image"].chunks])
    labels = np.concatenate([table["label"].to_numpy() for table in tables])
    where = str(found[0])
    return Parquet(
        found, encoded, checked_labels(labels, classes, where), torch.arange(len(labels)), channels, resize, crop
    )  # fmt: skip


def _read(file: Path, image: str | None, label: str | None) -> pa.Table:
    try:
        schema = pq.read_schema(file)
        names = [_column(schema, image, pa.types.is_struct, file, "image"), _column(schema, label, pa.types.is_integer, file, "label")]
        return pq.read_table(file, columns=names).rename_columns(["image", "label"])
    except (pa.ArrowInvalid, OSError) as error:
        raise BenchError(f"{file} is half-written or no parquet file ({' '.join(str(error).split())[:80]}); fetch it anew") from None


def _column(schema: pa.Schema, name: str | None, fits: object, file: Path, what: str) -> str:
    if name is not None:
        if name not in schema.names:
            raise BenchError(f"{file} has no column {name}{nearest(name, schema.names)}")
        return name
    found = [field.name for field in schema if fits(field.type)]  # type: ignore[operator]
    if len(found) != 1:
        raise BenchError(f"{file} has {len(found)} columns that could be the {what} ({schema.names}); set dataset.source.{what}")
    return found[0]
