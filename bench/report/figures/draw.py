"""An experiment's figures, drawn from its built tables and the store, as SVG and PNG. Imports no torch; matplotlib only to draw.

Units (percent, logits, queries) have a panel each. Bars, lines and points carry the 95% interval; the paper's printed numbers are
open markers. The same input gives the same bytes.
"""

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from bench.core.errors import BenchError, nearest
from bench.core.place import AnyPlace, Place
from bench.report.figures import bars, heatmap, lines, margin_trace, scatter
from bench.report.figures.figure_specs import AnyFigure, Bars, Heatmap, Lines, Scatter, Trace
from bench.report.figures.style import Entries, drawing, save_figure
from bench.report.records import Records
from bench.report.table import Entry, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(
    name: str, spec: AnyFigure, tables: Mapping[str, Table], store: Place, records: Records, stem: AnyPlace
) -> list[AnyPlace]:
    """<stem>.svg and .png. Raises BenchError where the figure names what is not there or a cell it shows is missing."""
    label = f"figures.{name}"
    table = tables[_known(label, "table", spec.table, tables)]
    rows = [_known(label, "row", row, table.rows) for row in spec.rows or table.rows]
    chosen = (spec.column,) if isinstance(spec, Trace) else spec.columns or table.columns
    columns = [_known(label, "column", column, table.columns) for column in chosen]
    shown = [_known(label, "column", spec.x, table.columns), *columns] if isinstance(spec, Scatter) else columns
    pairs = [(row, column) for row in rows for column in shown]
    if isinstance(spec, Lines):  # one may end before another: a row that is `without` the column
        pairs = [pair for pair in pairs if pair in table.entries] or pairs
    entries = {(row, column): _entry(label, table, row, column) for row, column in pairs}
    with drawing():
        figure = _figure(label, spec, entries, rows, columns, store, records)
        title = textwrap.fill(spec.title or name, int(12 * figure.get_figwidth()))  # some 12 letters an inch
        figure.suptitle(title, x=0.01, ha="left")
        return save_figure(figure, stem)


def _figure(
    label: str, spec: AnyFigure, entries: Entries, rows: list[str], columns: list[str], store: Place, records: Records
) -> "Figure":
    match spec:
        case Bars():
            return bars.draw(entries, rows, columns)
        case Lines():
            return lines.draw(label, entries, rows, columns, spec.x, spec.log_x)
        case Heatmap():
            return heatmap.draw(label, entries, rows, columns)
        case Scatter():
            return scatter.draw(entries, scatter.grouped(label, spec.groups, rows), spec.x, columns)
        case Trace():
            return margin_trace.draw(label, list(entries.values()), store, records)


def _known(label: str, what: str, name: str, names: Iterable[str]) -> str:
    if name not in names:
        raise BenchError(f"{label}: {what} {name} is unknown{nearest(name, names)}")
    return name


def _entry(label: str, table: Table, row: str, column: str) -> Entry:
    entry = table.entries.get((row, column))
    if entry is None:
        raise BenchError(
            f"{label}: table {table.name} has no entry for row {row}, column {column}; draw the whole grid"
        )
    if entry.ours is None:
        raise BenchError(f"{label}: row {row}, column {column} is missing; to fill it: {entry.command}")
    return entry
