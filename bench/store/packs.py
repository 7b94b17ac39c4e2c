"""Published records: <store>/cells/<experiment>.parquet, all cells of an experiment in one file. Imports no torch.

Rows of the store's schema with the cell's key before them, those of a cell side by side; in the file's metadata, for every
cell, all that a part of its own would say. SHA256SUMS beside the packs names each one's sha256 (`sha256sum -c SHA256SUMS`), and
it is verified at every reading. A run never changes them; scripts/publish.py writes them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.config.key import of as key_of
from bench.config.overrides import without_places
from bench.core.errors import BenchError, one_line
from bench.core.place import Place, Remote
from bench.store.files import write_whole
from bench.store.parts import FORMAT, as_parquet, conform
from bench.store.schema import SCHEMA

SUMS = "SHA256SUMS"
_ADVICE = "fetch the published records anew (git restore, say)"
KEY = pa.field("key", pa.dictionary(pa.int32(), pa.string()), nullable=False)


@dataclass(frozen=True)
class Packed:
    """One cell's share of a pack."""

    name: str  # the pack's file name
    about: dict[str, Any]
    rows: pa.Table

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        return conform(self.rows, columns)


@dataclass(frozen=True)
class Pack:
    """A pack that was found to be whole."""

    name: str
    cells: dict[str, dict[str, Any]]  # key -> what a part would say
    places: dict[str, tuple[int, int]]  # key -> (first row, number of rows)
    rows: pa.Table

    def cell(self, key: str) -> Packed:
        return Packed(self.name, self.cells[key], self.rows.slice(*self.places[key]))


def files(store: Place) -> list[Path]:
    """Packs lie in folders: they are small, and published."""
    if isinstance(store, Remote):
        return []
    return sorted((store / "cells").glob("*.parquet"))


def find(store: Place, key: str) -> Packed | None:
    """The cell from the pack that has most samples of it: experiments share cells, but not how many images they want. Raises
    BenchError where none has it and one is damaged."""
    damaged: BenchError | None = None
    best: Pack | None = None
    for path in files(store):
        try:
            pack = load(path)
        except BenchError as error:
            damaged = error
            continue
        if key in pack.cells and (best is None or pack.places[key][1] > best.places[key][1]):
            best = pack
    if best is None and damaged:
        raise damaged
    return None if best is None else best.cell(key)


def load(path: Path) -> Pack:
    """Raises BenchError where the pack is not what SHA256SUMS says."""
    try:
        seen, sums = path.stat(), (path.parent / SUMS).stat()
    except OSError as error:
        raise BenchError(f"can't read {error.filename} ({error.strerror}); {_ADVICE}") from None
    return _loaded(path, (seen.st_mtime_ns, seen.st_size, sums.st_mtime_ns, sums.st_size))


def write(folder: Path, name: str, cells: Mapping[str, tuple[Mapping[str, Any], pa.Table]]) -> Path:
    """<folder>/<name>.parquet of {key: (what a part would say, rows)}, and its line in SHA256SUMS."""
    keys = sorted(cells)
    tables = [conform(cells[key][1]).sort_by("position") for key in keys]
    names = pa.array([i for i, table in enumerate(tables) for _ in range(len(table))], pa.int32())
    rows = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    rows = rows.add_column(0, KEY, pa.DictionaryArray.from_arrays(names, pa.array(keys, pa.string())))
    starts = [0, *accumulate(map(len, tables))]
    places = {key: [start, len(table)] for key, start, table in zip(keys, starts, tables, strict=False)}
    described = {key: {**cells[key][0], "format": FORMAT, "rows": places[key]} for key in keys}
    for about in described.values():
        if "command" in about:
            about["command"] = without_places(about["command"])
    content = as_parquet(rows, described)
    path = folder / f"{name}.parquet"
    write_whole(path, content)
    sums = _sums(folder / SUMS) | {path.name: hashlib.sha256(content).hexdigest()}
    lines = [f"{sums[each.name]}  {each.name}\n" for each in sorted(folder.glob("*.parquet")) if each.name in sums]
    write_whole(folder / SUMS, "".join(lines).encode())
    return path


@lru_cache(maxsize=64)
def _loaded(path: Path, _stamp: tuple[int, ...]) -> Pack:
    """Once for every version of the file: `_stamp` are the times and sizes of the pack and of the sums."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != _sums(path.parent / SUMS).get(path.name):
            raise BenchError(f"{path} is not what {SUMS} says: damaged, or changed by hand; {_ADVICE}")
        file = pq.ParquetFile(pa.BufferReader(content))
        rows, cells = file.read(use_threads=False), json.loads((file.metadata.metadata or {})[b"bench"])
        places = {key: tuple(about.pop("rows")) for key, about in cells.items()}
        wrong = [key for key, about in cells.items() if about["key"] != key or key_of(about["config"]) != key]
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchError(f"{path} is no pack of records ({one_line(error)}); {_ADVICE}") from None
    if wrong:
        raise BenchError(f"{path}: the settings of cell {wrong[0]} are not those of its key; {_ADVICE}")
    return Pack(path.name, cells, places, rows)


def _sums(path: Path) -> dict[str, str]:
    """{file name: sha256}; {} where there are none yet."""
    if not path.exists():
        return {}
    pairs = [line.split(maxsplit=1) for line in path.read_text().splitlines()]
    return {pair[1].strip(): pair[0] for pair in pairs if len(pair) == 2}
