"""Beside each number of one's own the published one: `same`, `inside` or `outside` its interval. Imports no torch."""

import math
from collections.abc import Sequence
from dataclasses import replace

from bench.config.grid import GridCell
from bench.report.records import Records
from bench.report.seeds import BySeed, build_over
from bench.report.select import CellIndex
from bench.report.table import Entry, Table
from bench.report.table_specs import AnyTable
from bench.store import published


def beside(table: Table, name: str, spec: AnyTable, cells: Sequence[GridCell], narrowed: bool) -> Table:
    """The table with what the published records say noted in its entries; as it is where the cells are not published."""
    store = cells[0].runtime.store
    if published.is_published(store) or not any(published.holds(cell.key) for cell in cells):
        return table
    theirs = [replace(cell, runtime=cell.runtime.model_copy(update={"store": published.FOLDER})) for cell in cells]
    other = build_over(name, spec, BySeed(CellIndex(theirs)), Records(), narrowed)
    entries = {place: _noted(entry, other.entries.get(place)) for place, entry in table.entries.items()}
    return replace(table, entries=entries)


def _noted(entry: Entry, other: Entry | None) -> Entry:
    ours, theirs = entry.ours, other.ours if other is not None else None
    if ours is None or theirs is None or math.isnan(ours.value) or math.isnan(theirs.value):
        return entry
    shown = theirs.shown or f"{theirs.value:.{entry.kind.digits}f}"
    if (ours.value, ours.n, ours.shown) == (theirs.value, theirs.n, theirs.shown):
        return replace(entry, published="same")
    if math.isnan(theirs.low):
        return replace(entry, published=f"published {shown}")
    word = "inside" if theirs.low <= ours.value <= theirs.high else "outside"
    return replace(entry, published=f"published {shown}, {word}")
