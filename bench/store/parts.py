"""One part: a parquet file that is named by the sha256 of its bytes and says by itself whose it is. Imports no torch.

A flipped bit, a lost end or a page of another file changes the sha256, so no damage passes for a record; a part that lies in
another cell's folder is known by the key and the identity within.
"""

import errno
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.config.key import of as key_of
from bench.core.errors import one_line
from bench.core.place import Place
from bench.store.schema import SCHEMA

FORMAT = 2
NAME = re.compile(r"part-([0-9a-f]{32})\.parquet")


class Unusable(Exception):
    """A part that can't be believed: why, and whether it is `damaged` or `foreign` (whole, but of another cell)."""

    def __init__(self, why: str, kind: str = "damaged") -> None:
        super().__init__(why)
        self.why, self.kind = why, kind


@dataclass(frozen=True)
class Part:
    """A part that was found to be whole and of its cell."""

    name: str
    about: dict[str, Any]  # the cell's description, what made the rows, ledger, replaces, first
    content: pa.Buffer

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows, of all columns or of some. A column that did not exist when they were made is null."""
        return _rows(self.content, columns)


def encode(table: pa.Table, about: Mapping[str, Any]) -> tuple[str, bytes]:
    """-> the part's file name and its bytes."""
    told = {**about, "format": FORMAT, "first": contiguous(table)}
    content = as_parquet(table, told)
    return f"part-{hashlib.sha256(content).hexdigest()[:32]}.parquet", content


def as_parquet(table: pa.Table, told: Mapping[str, Any]) -> bytes:
    """A whole parquet file, `told` as JSON in its metadata (once: Arrow's own copy of the schema would repeat it)."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"bench": json.dumps(told, separators=(",", ":"), allow_nan=False)})
    return sink.getvalue().to_pybytes()


def read(path: Place, key: str) -> Part:
    """Raises Unusable where the file can't be believed, FileNotFoundError where it vanished, PermissionError, BenchError where an
    address can't be reached."""
    try:
        content = path.read_bytes()
    except PermissionError:
        raise
    except FileNotFoundError:
        if path.is_symlink():
            raise Unusable("it is a link into nothing") from None
        raise
    except OSError as error:  # a folder, a circle of links, a bad sector
        if error.errno == errno.ESTALE:  # a shared disk's word for a file that another machine removed meanwhile
            raise FileNotFoundError(str(path)) from None
        raise Unusable(error.strerror or one_line(error)) from None
    named = NAME.fullmatch(path.name)
    if not named:
        raise Unusable("its name has no sha256: it was not written by this version", "foreign")
    if hashlib.sha256(content).hexdigest()[:32] != named[1]:
        raise Unusable("its bytes are not those that were written" if content else "it is empty")
    part = Part(path.name, _about(content), pa.py_buffer(content))
    _of_its_cell(part.about, key)
    return part


def _about(content: bytes) -> dict[str, Any]:
    try:
        metadata = pq.read_metadata(pa.BufferReader(content)).metadata or {}
        about = json.loads(metadata[b"bench"])
        if about["format"] != FORMAT:
            raise Unusable(f"it is of format {about['format']}, this version reads {FORMAT}", "foreign")
        return about
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise Unusable("it is no part of a cell", "foreign") from None


def _of_its_cell(about: Mapping[str, Any], key: str) -> None:
    """Raises Unusable."""
    if about.get("key") != key:
        raise Unusable(f"it is a part of cell {about.get('key')}", "foreign")
    if not isinstance(about.get("config"), Mapping) or key_of(about["config"]) != key:
        raise Unusable("its settings are not those of the cell's key", "foreign")


def _rows(content: pa.Buffer, columns: Sequence[str] | None) -> pa.Table:
    """As pq.read_table with a schema, which builds a data set for every file and takes ten times as long."""
    file = pq.ParquetFile(pa.BufferReader(content))
    there = set(file.schema_arrow.names)
    wanted = [name for name in columns or SCHEMA.names if name in there]
    return conform(file.read(wanted, use_threads=False), columns)


def conform(table: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
    """The table with the schema's columns (or some of them), in its order and types; what it lacks is null."""
    wanted = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
    found = [
        table[each.name].cast(each.type) if each.name in table.column_names else pa.nulls(len(table), each.type)
        for each in wanted
    ]
    return pa.table(found, schema=wanted)


def contiguous(table: pa.Table) -> int:
    """How many of the order's first samples are all here."""
    places = np.unique(table["position"].to_numpy())
    return int((places == np.arange(len(places))).cumprod().sum())
