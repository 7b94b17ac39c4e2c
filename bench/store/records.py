"""results/cells/<key>/: immutable parquet parts, one row a sample, and cell.yaml beside them. Imports no torch.

A part appears whole or not at all (temporary name, fsync, rename), and no two writers share a file: a run that is killed at
any moment loses only what it had not yet written, and shards of one cell just add parts.
"""

import errno
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from filelock import FileLock

from bench.core.errors import BenchError, one_line

T = TypeVar("T")

# One schema for every cell: an all-None column without a type would become null and break reading.
SCHEMA = pa.schema(
    [
        pa.field("sample", pa.int64(), nullable=False),  # the index in the data set's revision
        pa.field("position", pa.int64(), nullable=False),  # its place in the cell's order: the first n are position < n
        pa.field("label", pa.int64(), nullable=False),
        pa.field("clean", pa.bool_(), nullable=False),  # right when clean, in its batch setting
        pa.field("fooled", pa.bool_(), nullable=False),
        pa.field("undefined", pa.bool_()),  # logits that are not finite: neither fooled nor robust
        pa.field("target", pa.int64()),  # null = untargeted
        pa.field("queries", pa.int64()),
        pa.field("first_any", pa.int64()),  # the first query that fooled, wherever it lay
        pa.field("linf", pa.float64()),
        pa.field("l2", pa.float64()),
        pa.field("l1", pa.float64()),
        pa.field("margin", pa.float64()),  # lowest margin loss the attacker saw
        pa.field("holds", pa.float64()),  # share of re-asks in which the found image still fools
        pa.field("restart", pa.int64()),
        pa.field("passes_fwd", pa.int64()),
        pa.field("passes_bwd", pa.int64()),
        pa.field("grad_zero", pa.float64()),
        pa.field("grad_nonfinite", pa.float64()),
        pa.field("seconds", pa.float64()),
        pa.field("logits", pa.list_(pa.float32())),  # clean cells only
        pa.field("trace", pa.list_(pa.float32())),  # lowest margin at the checkpoints of bench.store.trace
    ]
)
LEDGER = ("attack", "clean", "re_ask", "stand_in", "filler", "inner", "white_box", "discarded")


class Cell:
    """One cell's folder. Raises BenchError where the folder can't be written or its parts contradict each other."""

    def __init__(self, store: Path, key: str) -> None:
        self.key, self.folder = key, store / "cells" / key

    def describe(self, content: Mapping[str, Any]) -> None:
        """Writes cell.yaml at the cell's first run."""
        path = self.folder / "cell.yaml"
        if not path.exists():
            _write_whole(path, yaml.safe_dump(dict(content), sort_keys=False).encode())

    def description(self) -> dict[str, Any]:
        path = self.folder / "cell.yaml"
        return yaml.safe_load(path.read_text()) if path.exists() else {}

    def parts(self) -> list[Path]:
        """All parts but those that a compacted one replaces (it may have been killed before it could delete them)."""
        replaced = {name for path in self.folder.glob("part-all-*.parquet") for name in _made(path)["replaces"]}
        return sorted(path for path in self.folder.glob("part-*.parquet") if path.name not in replaced)

    def _read(self, read: Callable[[Path], T], first: bool = False) -> list[T]:
        """What `read` makes of every part, or of the first alone; anew where another process compacted them meanwhile."""
        for _ in range(100):
            try:
                return [read(path) for path in self.parts()[: 1 if first else None]]
            except FileNotFoundError:
                continue
        raise BenchError(f"the parts of cell {self.key} vanish while they are read; look at {self.folder}")

    def append(self, rows: Sequence[Mapping[str, Any]], made: Mapping[str, Any]) -> None:
        """Adds one part. `made`: data and weights sha256, ledger, device, threads, versions, commit."""
        if not rows:
            return
        self.check(made)
        self._write(pa.Table.from_pylist([dict(row) for row in rows], SCHEMA), made, "part")

    def check(self, made: Mapping[str, Any]) -> None:
        """Raises BenchError where what is there was made of other data or weights."""
        first = self.made()
        for name in ("data", "weights"):
            if first and first[name] != made[name]:
                raise BenchError(
                    f"cell {self.key} was begun with {name} sha256 {first[name][:12]}, this run has {made[name][:12]}; bring "
                    f"the same {name} (training repeats on one thread count and torch build), move {self.folder} away to "
                    "start it anew, or set store=<a new folder>"
                )

    def _write(self, table: pa.Table, made: Mapping[str, Any], name: str) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata({"bench": json.dumps(dict(made))}), sink)
        _write_whole(self.folder / f"{name}-{uuid.uuid4().hex[:12]}.parquet", sink.getvalue().to_pybytes())

    def made(self) -> dict[str, Any]:
        """What the first part says of its making; {} without parts."""
        return next(iter(self._read(_made, first=True)), {})

    def ledger(self) -> dict[str, int]:
        """The rows that entered the network for this cell, by purpose, over all its parts."""
        parts = [made["ledger"] for made in self._read(_made)]
        return {name: sum(part.get(name, 0) for part in parts) for name in LEDGER}

    def frame(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows, sorted by position, a sample once; of some columns alone where they are named. Raises BenchError for a
        sample with two different records."""
        table = self._table()
        frame = table.to_pandas().sort_values("position", kind="stable", ignore_index=True)
        twice = frame[frame["sample"].duplicated(keep=False)]
        if len(twice):
            self._same(twice)
            frame = frame.drop_duplicates("sample", ignore_index=True)
        return frame if columns is None else frame.loc[:, list(columns)]

    def arrays(self, columns: Sequence[str]) -> dict[str, np.ndarray]:
        """As `frame`, some columns of numbers as (N,) arrays, a null as NaN: an eighth of the time. Sample and position must be
        among the columns."""
        table = self._table(list(columns))
        sample, position = table["sample"].to_numpy(), table["position"].to_numpy()
        if len(np.unique(sample)) < len(sample):  # parts that overlap: to be compared whole
            frame = self.frame(columns)
            return {name: frame[name].to_numpy() for name in columns}
        found = {name: table[name].to_numpy() for name in columns}
        if (position[1:] > position[:-1]).all():
            return found
        order = np.argsort(position)
        return {name: column[order] for name, column in found.items()}

    def _table(self, columns: list[str] | None = None) -> pa.Table:
        """The parts one behind the other."""
        schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
        try:
            tables = self._read(lambda path: _typed(pq.ParquetFile(path).read(columns, use_threads=False), schema))
        except (pa.ArrowException, OSError, ValueError) as error:  # pyarrow raises each of them for garbage
            raise BenchError(
                f"cell {self.key} has a broken part ({one_line(error)}); delete that file and run the cell again"
            ) from None
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def _same(self, twice: pd.DataFrame) -> None:
        lists = {name: twice[name].map(lambda v: None if v is None else str(list(v))) for name in ("logits", "trace")}
        facts = twice.drop(columns=["seconds"]).assign(**lists)
        for sample, records in facts.groupby("sample"):
            if len(records.drop_duplicates()) > 1:
                raise BenchError(
                    f"cell {self.key} has two different records of sample {sample}; move {self.folder} away and rerun"
                )

    def positions(self) -> set[int]:
        """The places in the cell's order that are finished; cheap, reads one column."""
        columns = self._read(lambda path: pq.read_table(path, columns=["position"])["position"].to_pylist())
        return {position for column in columns for position in column}

    def complete(self, n: int | None) -> bool:
        """Are the first n samples (null: all of the data set) there?"""
        wanted = n if n is not None else self.description().get("samples_in_all")
        return wanted is not None and len(self.parts()) > 0 and self.positions().issuperset(range(wanted))

    def compact(self) -> None:
        """All parts as one."""
        with FileLock(self.folder / "compact.lock"):
            old = self.parts()
            if len(old) < 2:
                return
            rows = self.frame()
            made = self.made() | {"ledger": self.ledger(), "replaces": [path.name for path in old]}
            self._write(pa.Table.from_pandas(rows, SCHEMA, preserve_index=False), made, "part-all")
            for path in old:
                path.unlink()


def _typed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of the schema; one that an older part has not is null."""
    if table.schema.equals(schema):
        return table
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(schema.names).cast(schema)


def _made(path: Path) -> dict[str, Any]:
    return json.loads((pq.read_schema(path).metadata or {})[b"bench"])


def _write_whole(path: Path, content: bytes) -> None:
    """Temporary name, fsync, rename: readers see the whole file or none."""
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:12]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True) if error.errno != errno.EROFS else None
        raise BenchError(_trouble(error, path)) from None


def _trouble(error: OSError, path: Path) -> str:
    kept = "finished parts are kept; run the same command again to go on"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: could not write {path}; free some space; {kept}"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"can't write {path} ({error.strerror}); set store=<a folder you may write to>; {kept}"
    return f"can't write {path} ({error.strerror}); {kept}"
