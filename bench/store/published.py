"""The repository's own records, results/published: is a cell of one's own bit for bit the published one, and if not, why? Imports
no torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.config import places
from bench.core.errors import BenchError
from bench.core.place import Place, Remote
from bench.store import packs
from bench.store.records import Cell

FOLDER = places.shipped("results") / "published"
APART = {"seconds"}  # of the record alone that says how long it took


@dataclass(frozen=True)
class Comparison:
    """Of one cell's first samples, those that both stores have."""

    records: int
    same: int  # bit for bit, but for `seconds`
    reasons: tuple[str, ...] = ()  # what differs in the making, where a record does


def is_published(store: Place) -> bool:
    """Is it the repository's own, maybe by way of a link to its cells?"""
    return not isinstance(store, Remote) and (store / "cells").resolve() == (FOLDER / "cells").resolve()


def holds(key: str) -> bool:
    """Is the cell published?"""
    return packs.find(FOLDER, key) is not None


def compare(store: Place, key: str) -> Comparison | None:
    """None where either store lacks the cell. Raises BenchError for damaged records."""
    ours, theirs = Cell(store, key), Cell(FOLDER, key)
    if not holds(key) or not ours.made():
        return None
    mine, other = ours.frame(), theirs.frame()
    # a column that was not kept then says nothing
    names = [name for name in mine.columns if name not in APART and name in other and bool(other[name].notna().any())]
    known = _rows(other, names)
    found = {sample: row == known[sample] for sample, row in _rows(mine, names).items() if sample in known}
    same = sum(found.values())
    return Comparison(len(found), same, () if same == len(found) else _reasons(ours, theirs))


def _rows(frame: pd.DataFrame, names: list[str]) -> dict[int, str]:
    """Each sample's record as text in which equal means bit for bit equal; null and NaN are one."""
    columns = [[_text(value) for value in frame[name].tolist()] for name in names]
    return dict(zip(frame["sample"].tolist(), (repr(row) for row in zip(*columns, strict=True)), strict=True))


def _text(value: Any) -> str:
    if hasattr(value, "__len__"):
        return repr([*map(float, value)])
    return "null" if value is None or value != value else repr(value)


def _reasons(ours: Cell, theirs: Cell) -> tuple[str, ...]:
    mine, other = ours.made(), theirs.made()
    found = []
    if mine.get("weights") != other.get("weights"):
        found.append("other weights (training ends in others on another CPU, thread count or torch)")
    if mine.get("data") != other.get("data"):
        found.append("other data")
    torch = [about.get("versions", {}).get("torch", "unknown") for about in (mine, other)]
    if torch[0] != torch[1]:
        found.append(f"torch {torch[0]}, published with {torch[1]}")
    found += [
        f"{name} {mine.get(name)}, published with {other[name]}"
        for name in ("device", "cpu", "threads")
        if name in other and mine.get(name) != other[name]
    ]
    return tuple(found) or ("the same weights, data and torch: another CPU, or the published CPU is not known",)


def summary(store: Place, keys: Iterable[str]) -> list[str]:
    """What the end of a report says of its cells: how many records are those published, and why the others are not."""
    if is_published(store):
        return []
    cells = same_cells = records = same = 0
    reasons: dict[str, None] = {}
    for key in dict.fromkeys(keys):
        try:
            found = compare(store, key)
        except BenchError:
            continue  # a damaged cell is named by whoever reads it first
        if found is not None:
            cells, records, same = cells + 1, records + found.records, same + found.same
            same_cells += found.same == found.records
            reasons |= dict.fromkeys(found.reasons)
    if not cells:
        return []
    lines = [
        f"{same:,} of {records:,} records in {same_cells} of {cells} cells are bit for bit those of results/published."
    ]
    return lines + [f"Why others are not: {'; '.join(reasons)}."] if reasons else lines
