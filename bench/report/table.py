"""A table's specification + the grid's cells + their records -> entries: ours with n and interval, the paper's number beside it.

Imports no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.core.errors import BenchError
from bench.report import transfer_matrix
from bench.report.metrics import METRICS
from bench.report.metrics.base import Found, Metric, Place
from bench.report.paper_numbers import Printed
from bench.report.records import Missing, Records
from bench.report.select import CellIndex
from bench.report.table_specs import AnyTable, MatrixSpec, TableSpec
from bench.report.values import Value

CHANCES = 1.5  # times a guess: below it a clean accuracy is said to be near chance


@dataclass(frozen=True)
class Entry:
    row: str
    column: str
    metric: str
    ours: Value | None  # None = the cell is missing
    printed: float | None
    key: str
    command: str  # fills the cell if it is missing
    ambiguity: str = ""  # what the paper leaves open that may explain a difference
    apart: bool = False  # of fewer images than the rest of the table
    published: str = (
        ""  # how it stands to the repository's own number: same, or that number and inside or outside its interval
    )

    @property
    def kind(self) -> Metric:
        return METRICS[self.metric]

    @property
    def difference(self) -> float | None:
        return None if self.ours is None or self.printed is None else self.ours.value - self.printed

    @property
    def outside(self) -> bool:
        """The paper's number lies outside our interval."""
        if self.ours is None or self.printed is None or math.isnan(self.ours.low):
            return False
        return not self.ours.low <= self.printed <= self.ours.high


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    notes: list[str]
    rows: list[str]
    columns: list[str]
    entries: dict[tuple[str, str], Entry]


def build(name: str, spec: AnyTable, cells: CellIndex, records: Records, narrowed: bool = False) -> Table:
    """Raises BenchError where a row and column match no cell (unless the command line narrowed the grid) or two."""
    table = _plain(name, spec, cells, narrowed)
    printed = Printed.read(table.printed)
    found = [
        _entry(place, cells, records, printed)
        for place in (Place(name, table, *pair) for pair in table.places())
        if not narrowed or _present(place, cells)
    ]
    entries = {(entry.row, entry.column): entry for entry in _marked(found)}
    rows, columns = (list(dict.fromkeys(pair[i] for pair in entries)) for i in (0, 1))
    notes = [*table.notes, *_near_chance(found, cells, records, table, name)]
    if isinstance(spec, MatrixSpec):
        notes += transfer_matrix.notes([[entries[row, column].ours for column in columns] for row in rows])
    return Table(name, table.title or name, notes, rows, columns, entries)


def _near_chance(
    entries: Sequence[Entry], cells: CellIndex, records: Records, table: TableSpec, name: str
) -> list[str]:
    """A line a row whose network hardly knows more than a guess when clean: its labels, order of classes, normalisation or
    weights are wrong, and its robust accuracy says nothing."""
    lines: dict[str, None] = {}
    shown = {(entry.row, entry.column) for entry in entries if entry.ours is not None}
    for place in (Place(name, table, *pair) for pair in table.places()):
        if (place.row.name, place.column.name) not in shown:
            continue
        for need in METRICS[place.column.metric].needs(place, cells):
            cell = cells.only(need.where, need.label, METRICS[place.column.metric].clean)
            try:
                clean = records.whole_clean_pass(cell).clean
            except (Missing, BenchError):
                continue
            right, chance = 100 * float(clean.mean()) if len(clean) else 100.0, 100 / cell.spec.dataset.classes
            if right < CHANCES * chance:
                lines[
                    f"{place.row.name}: clean accuracy {right:.1f} is near chance ({chance:.1f}): check the labels, the order of "
                    "the classes, the normalisation and the weights"
                ] = None
    return list(lines)


def _plain(name: str, spec: AnyTable, cells: CellIndex, narrowed: bool) -> TableSpec:
    """The rows and columns of a matrix spelled out."""
    if isinstance(spec, TableSpec):
        return spec
    configs = [cell.config for cell in cells.matching(spec.where)]
    if narrowed and not configs:
        return TableSpec(title=spec.title, rows=(), columns=())
    return transfer_matrix.spelled_out(name, spec, configs)


def _present(place: Place, cells: CellIndex) -> bool:
    """Did the command line leave the cells of this entry in the grid?"""
    return all(cells.matching(need.where) for need in METRICS[place.column.metric].needs(place, cells))


def _entry(place: Place, cells: CellIndex, records: Records, printed: Printed | None) -> Entry:
    metric = METRICS[place.column.metric]
    needs = metric.needs(place, cells)
    found = [Found(cells.only(need.where, need.label, metric.clean), need) for need in needs]
    first = found[0].cell
    try:
        ours = metric.value(place, found, records)
        key, command = first.clean_key if metric.clean else first.key, first.command
    except Missing as missing:
        ours, key, command = None, missing.key, missing.command
    paper = printed.number(place.table, place.row, place.column) if printed else None
    ambiguity = "; ".join(each.ambiguity for each in (place.column, place.row) if each.ambiguity)
    return Entry(place.row.name, place.column.name, place.column.metric, ours, paper, key, command, ambiguity)


def _marked(entries: Sequence[Entry]) -> list[Entry]:
    """Those of fewer images than others are marked so."""
    counts = [entry.ours.n if entry.ours and entry.kind.counts == "images" else None for entry in entries]
    most = max((n for n in counts if n is not None), default=0)
    return [replace(entry, apart=n is not None and n < most) for entry, n in zip(entries, counts, strict=True)]
