"""<store>/cells/<key>/: immutable parquet parts, one row a sample, and cell.yaml, a copy for people. Imports no torch.

A part appears whole or not at all, and no two writers share a file: a run that is killed at any moment loses only what it had
not yet written, and shards of one cell just add parts. Each part says whose it is and is named by the sha256 of its bytes
(bench/store/parts.py); what can't be believed is set aside, never deleted, and counts as missing. Published records are packs
(bench/store/packs.py): a cell that has no folder is looked for in those.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.core.errors import BenchError
from bench.core.place import Place, Remote
from bench.store import copies, locks, packs
from bench.store.files import set_aside, sync_folder, write_whole
from bench.store.parts import Part, Unusable, conform, contiguous, encode, read
from bench.store.schema import LEDGER, LISTS, OF_A_RECORD, SCHEMA

KEPT = "finished parts are kept; run the same command again to go on"
OF_A_PART = ("ledger", "replaces", "first", "format")  # what a part says beside the cell's description


class Damaged(BenchError):
    """Parts were set aside just now; whoever reads again gets the rest."""


class Piece(Protocol):
    """Rows of a cell with what is known of them: a part, or the cell's share of a pack."""

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> dict[str, Any]: ...
    def table(self, columns: Sequence[str] | None = None) -> pa.Table: ...


class Cell:
    """One cell of a store.

    Every reading raises Damaged, once, where parts had to be set aside; BenchError where parts contradict each other, or where
    the folder can't be read or written.
    """

    def __init__(self, store: Place, key: str) -> None:
        self.store, self.key, self.folder = store, key, store / "cells" / key
        self._about: dict[str, Any] = {}  # goes into every part that this object adds

    def describe(self, content: Mapping[str, Any]) -> None:
        """What the cell is: config (its identity), key, samples_in_all, anytime, cost, command, commit, versions. Goes into
        every part from now on, and into cell.yaml at the cell's first run."""
        self._about = dict(content)
        if not self.folder.is_dir() and packs.find(self.store, self.key):
            return
        if not copies.is_good(self.folder, self.key):
            self._may_write()
            copies.write(self.folder, self.key, self.description() or self._about)

    def description(self) -> dict[str, Any]:
        """What the parts say of the cell; {} without parts. cell.yaml is not read."""
        return _description(self._pieces())

    def parts(self) -> list[Place]:
        """The files with the cell's records."""
        return [self.folder / part.name for part in self._own()]

    def append(self, rows: Sequence[Mapping[str, Any]], made: Mapping[str, Any]) -> None:
        """Adds one part. `made`: data and weights sha256, ledger, device, threads, versions, commit."""
        if not rows:
            return
        self.check(made)
        about = self._about or self.description()
        if foreign := set(made["ledger"]) - set(LEDGER):
            raise BenchError(f"the ledger has no {', '.join(sorted(foreign))}; there are: {', '.join(LEDGER)}")
        if not about:
            raise BenchError(f"cell {self.key} has no description yet; describe it before records are added")
        self._write(pa.Table.from_pylist([dict(row) for row in rows], SCHEMA), {**about, **made})

    def check(self, made: Mapping[str, Any]) -> None:
        """Raises BenchError where what is there was made of other data or weights."""
        first = self.made()
        for name in ("data", "weights"):
            if first and name in made and first[name] != made[name]:
                raise BenchError(
                    f"cell {self.key} was begun with {name} sha256 {first[name][:12]}, this run has {made[name][:12]}; bring "
                    f"the same {name} (training repeats on one thread count and torch build), move {self.folder} away to "
                    "start it anew, or set store=<a new folder>"
                )

    def made(self) -> dict[str, Any]:
        """What the first part says of its making; {} without parts."""
        pieces = self._pieces()
        return pieces[0].about if pieces else {}

    def ledger(self) -> dict[str, int]:
        """The rows that entered the network for this cell, by purpose: those of its records, each counted once, and what the
        parts' makers spent beside them."""
        pieces = self._pieces()
        rows = self._joined(pieces, ["sample", "position", *(f"rows_{name}" for name in OF_A_RECORD)])
        own = {name: int(np.nansum(rows[f"rows_{name}"].to_numpy(dtype=float))) for name in OF_A_RECORD}
        return {name: own.get(name, 0) + count for name, count in _beside(pieces, sum(own.values())).items()}

    def frame(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows, sorted by position, a sample once; of all columns, or of some. Raises BenchError for a sample with two
        different records."""
        return self._joined(self._pieces(), columns)

    def arrays(self, columns: Sequence[str]) -> dict[str, np.ndarray]:
        """As `frame`, some columns of numbers as (N,) arrays, a null as NaN: an eighth of the time. Sample and position must be
        among the columns."""
        pieces = self._pieces()
        tables = [piece.table(columns) for piece in pieces] or [conform(SCHEMA.empty_table(), columns)]
        found = {name: pa.concat_tables(tables)[name].to_numpy() for name in columns}
        if len(np.unique(found["sample"])) < len(found["sample"]):  # parts that overlap: to be compared whole
            frame = self._joined(pieces)
            return {name: frame[name].to_numpy() for name in columns}
        order = np.argsort(found["position"], kind="stable")
        return {name: column[order] for name, column in found.items()}

    def positions(self) -> set[int]:
        """The places in the cell's order that are finished; cheap, reads one column."""
        return _positions(self._pieces())

    def complete(self, n: int | None) -> bool:
        """Are the first n samples (null: all of the data set) there?"""
        pieces = self._pieces()
        wanted = n if n is not None else _description(pieces).get("samples_in_all")
        if wanted is None or not pieces:
            return False
        return max(piece.about["first"] for piece in pieces) >= wanted or _positions(pieces).issuperset(range(wanted))

    def compact(self) -> None:
        """All parts as one. What another process adds meanwhile stays a part of its own."""
        if not self.folder.is_dir():
            return
        if len(self._own()) < 2:
            return
        with suppress(locks.Held), locks.compacting(self.store, self.key):
            old = self._own()
            if len(old) < 2:
                return
            about, rows = self._whole(old)
            self._write(rows, {**about, "replaces": [part.name for part in old]})
            for part in old:
                (self.folder / part.name).unlink(missing_ok=True)
            if not isinstance(self.folder, Remote):
                sync_folder(self.folder)

    def whole(self) -> tuple[dict[str, Any], pa.Table]:
        """What a pack holds of the cell: what one part of all its records would say, and the records."""
        return self._whole(self._pieces())

    def _whole(self, pieces: Sequence[Piece]) -> tuple[dict[str, Any], pa.Table]:
        rows = pa.Table.from_pandas(self._joined(pieces), SCHEMA, preserve_index=False)
        told = {"ledger": _beside(pieces, _rows_in(rows)), "first": contiguous(rows)}
        return _description(pieces) | told, rows

    def mend_copy(self) -> str | None:
        """Writes cell.yaml anew where it is not what the parts say, and returns a line that says so."""
        if isinstance(self.folder, Remote):  # nothing tears an object, and a look at each takes a request
            return None
        if copies.is_good(self.folder, self.key) or not self.folder.is_dir() or not (own := self._own()):
            return None
        why = copies.write(self.folder, self.key, _description(own))
        return f"cell {self.key}: cell.yaml was {why}; written anew from the records"

    # --- reading -----------------------------------------------------------------------------------------------------

    def _pieces(self) -> Sequence[Piece]:
        own = self._own()
        if own:
            return own
        packed = packs.find(self.store, self.key)
        return [packed] if packed else []

    def _own(self) -> list[Part]:
        """The folder's parts but those that a compacted one replaces (a kill may have come before they were deleted)."""
        for again in range(100):
            found, troubles, vanished = list[Part](), list[tuple[Place, Unusable]](), False
            for path in self._files(again > 0):
                try:
                    found.append(read(path, self.key))
                except FileNotFoundError:  # another process compacted them meanwhile
                    vanished = True
                except PermissionError as error:
                    raise BenchError(f"can't read {path} ({error.strerror}); give yourself the right to") from None
                except Unusable as trouble:
                    troubles.append((path, trouble))
            if vanished:
                time.sleep(min(0.02 * again, 1))  # a shared disk may list for half a minute what is gone
                continue
            replaced = {name for part in found for name in part.about.get("replaces") or []}
            if troubles := [(path, trouble) for path, trouble in troubles if path.name not in replaced]:
                raise Damaged(self._aside(troubles))
            kept = [part for part in found if part.name not in replaced]
            self._agree(kept)
            return kept
        raise BenchError(f"the parts of cell {self.key} vanish while they are read; look at {self.folder}")

    def _files(self, anew: bool = False) -> Sequence[Place]:
        """anew: whatever somebody saw before."""
        if isinstance(self.folder, Remote):
            return (self.folder.now() if anew else self.folder).glob("part-*.parquet")
        try:
            return sorted(self.folder.glob("part-*.parquet")) if self.folder.is_dir() else self._no_folder()
        except OSError as error:
            raise BenchError(f"can't read {self.folder} ({error.strerror})") from None

    def _no_folder(self) -> list[Place]:
        if self.folder.exists() or self.folder.is_symlink():
            raise Damaged(self._aside([(self.folder, Unusable("it is no folder"))]))
        return []

    def _aside(self, troubles: Iterable[tuple[Place, Unusable]]) -> str:
        """Renames the parts that can't be believed; one line for all of them."""
        said = []
        for path, trouble in troubles:
            try:
                name = f"set aside as {set_aside(path, trouble.kind).name}"
            except FileNotFoundError:
                name = "another process set it aside"
            except OSError as error:
                name = f"can't be set aside: {error.strerror}"
            said.append(f"{path.name} is {trouble.kind}: {trouble.why} ({name})")
        return f"cell {self.key} in {self.store}: {'; '.join(said)}; its records count as missing"

    def _agree(self, kept: Sequence[Piece]) -> None:
        for name in ("data", "weights", "samples_in_all"):
            values = sorted({str(part.about[name])[:12] for part in kept if name in part.about})
            if len(values) > 1:
                raise BenchError(
                    f"cell {self.key} has parts of different {name} ({', '.join(values)}); move {self.folder} away and rerun"
                )

    def _joined(self, pieces: Sequence[Piece], columns: Sequence[str] | None = None) -> pd.DataFrame:
        needed = None if columns is None else list(dict.fromkeys(["sample", "position", *columns]))
        tables = [piece.table(needed) for piece in pieces] or [conform(SCHEMA.empty_table(), needed)]
        frame = pa.concat_tables(tables).to_pandas().sort_values("position", kind="stable", ignore_index=True)
        if frame["sample"].duplicated().any():
            whole = frame if columns is None else pa.concat_tables([piece.table() for piece in pieces]).to_pandas()
            self._same(whole[whole["sample"].duplicated(keep=False)])
            frame = frame.drop_duplicates("sample", ignore_index=True)
        return frame if columns is None else frame[list(columns)]

    def _same(self, twice: pd.DataFrame) -> None:
        lists = {
            name: twice[name].map(lambda v: None if v is None else str(list(v))) for name in LISTS if name in twice
        }
        facts = twice.drop(columns=["seconds"], errors="ignore").assign(**lists)
        for sample, records in facts.groupby("sample"):
            if len(records.drop_duplicates()) > 1:
                raise BenchError(
                    f"cell {self.key} has two different records of sample {sample}; move {self.folder} away and rerun"
                )

    # --- writing -----------------------------------------------------------------------------------------------------

    def _may_write(self) -> None:
        if packs.files(self.store):
            raise BenchError(
                f"{self.store} holds published records, which a run does not change; set store=<another folder>"
            )

    def _write(self, table: pa.Table, about: Mapping[str, Any]) -> None:
        self._may_write()
        name, content = encode(table, about)
        write_whole(self.folder / name, content, KEPT)


def _positions(pieces: Iterable[Piece]) -> set[int]:
    return {place for piece in pieces for place in piece.table(["position"])["position"].to_pylist()}


def _beside(pieces: Sequence[Piece], of_records: int) -> dict[str, int]:
    """The network rows that belong to none of the records, which took `of_records` rows: what the parts tell, and what went
    into the second records of samples that two writers did."""
    told = {name: sum(piece.about["ledger"].get(name, 0) for piece in pieces) for name in LEDGER}
    names = [f"rows_{name}" for name in OF_A_RECORD]
    told["unfinished"] += sum(_rows_in(piece.table(names)) for piece in pieces) - of_records
    return told


def _rows_in(table: pa.Table) -> int:
    """The network rows that a table's records took."""
    return sum(int(table[f"rows_{name}"].to_pandas().sum()) for name in OF_A_RECORD)


def _description(pieces: Sequence[Piece]) -> dict[str, Any]:
    """The first part's, with the cost that any of them tells."""
    if not pieces:
        return {}
    cost = next(({"cost": piece.about["cost"]} for piece in pieces if piece.about.get("cost") is not None), {})
    return {name: value for name, value in pieces[0].about.items() if name not in OF_A_PART} | cost
