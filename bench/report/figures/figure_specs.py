"""An experiment's figures, drawn from its built tables and the store, as SVG and PNG. Imports no torch; matplotlib only to draw.

figures:
  fig1c: {kind: bars, title: ..., table: table1, columns: [Square-2500, logit diff]}        # a group of bars a row
  fig3a: {kind: lines, title: ..., table: alpha, x: alpha, columns: [...], log_x: true}     # row names are the x values
  fig4: {kind: heatmap, title: ..., table: matrix}                                          # a table's numbers, coloured
  fig6: {kind: scatter, title: ..., table: table1, x: clean acc, columns: [single-step], groups: {IGR: [IGR 1000, IGR 3000]}}
  fig2b: {kind: trace, title: ..., table: table1, column: Square-2500, rows: [Vanilla, RND]}  # margin against queries

`rows` picks and orders a table's rows; without it, all. Units (percent, logits, queries) have a panel each. Bars, lines and
points carry the 95% interval; the paper's printed numbers are open markers. The same input gives the same bytes.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.errors import BenchError, nearest
from bench.report.figures import heatmap, margin_trace, scatter
from bench.report.figures.style import COLOURS, drawing, legend, numbers, save_figure, sheet
from bench.report.formats import UNITS
from bench.report.table import Entry, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COMMON = {"kind", "title", "table", "rows"}
FIELDS = {
    "bars": COMMON | {"columns"}, "lines": COMMON | {"columns", "x", "log_x"}, "trace": COMMON | {"column"},
    "heatmap": COMMON | {"columns"}, "scatter": COMMON | {"columns", "x", "groups"},
}  # fmt: skip


def draw(name: str, spec: Mapping[str, Any], tables: Mapping[str, Table], store: Path, stem: Path) -> list[Path]:
    """<stem>.svg and .png. Raises BenchError where the figure is described wrongly or a cell it shows is missing."""
    label = f"figures.{name}"
    table = _check(label, spec, tables)
    rows = [_known(label, "row", row, table.rows) for row in spec.get("rows") or table.rows]
    chosen = [spec["column"]] if spec["kind"] == "trace" else spec.get("columns") or table.columns
    columns = [_known(label, "column", column, table.columns) for column in chosen]
    shown = [_known(label, "column", spec["x"], table.columns), *columns] if spec["kind"] == "scatter" else columns
    pairs = [(row, column) for row in rows for column in shown]
    if spec["kind"] == "lines":  # one may end before another: a row that is `without` the column
        pairs = [pair for pair in pairs if pair in table.entries] or pairs
    entries = {(row, column): _entry(label, table, row, column) for row, column in pairs}
    with drawing():
        if spec["kind"] == "bars":
            figure = _bars(entries, rows, columns)
        elif spec["kind"] == "lines":
            figure = _lines(label, entries, rows, columns, str(spec.get("x", "")), bool(spec.get("log_x")))
        elif spec["kind"] == "heatmap":
            figure = heatmap.draw(label, entries, rows, columns)
        elif spec["kind"] == "scatter":
            groups = scatter.grouped(label, spec.get("groups"), rows)
            figure = scatter.draw(entries, groups, shown[0], columns)
        else:
            figure = margin_trace.draw(label, list(entries.values()), store)
        title = textwrap.fill(
            str(spec.get("title") or name), int(12 * figure.get_figwidth())
        )  # some 12 letters an inch
        figure.suptitle(title, x=0.01, ha="left")
        return save_figure(figure, stem)


# --- what the YAML names ---------------------------------------------------------------------------------------------


def _check(label: str, spec: Mapping[str, Any], tables: Mapping[str, Table]) -> Table:
    kind = str(spec.get("kind"))
    if kind not in FIELDS:
        raise BenchError(f"{label}: kind {kind} is unknown{nearest(kind, FIELDS)}")
    for field in spec:
        if field not in FIELDS[kind]:
            raise BenchError(f"{label}.{field} is unknown{nearest(str(field), FIELDS[kind])}")
    column = "column" if kind == "trace" else "columns"
    needed = {"heatmap": ["table"], "scatter": ["table", "x", column]}.get(kind, ["table", column])
    for field in needed:
        if not spec.get(field):
            raise BenchError(f"{label} of kind {kind} needs `{field}`")
    if kind != "trace" and isinstance(spec.get(column), str):
        raise BenchError(f"{label}.columns={spec[column]} must be a list: columns: [{spec[column]}]")
    return tables[_known(label, "table", spec["table"], tables)]


def _known(label: str, what: str, name: Any, names: Mapping[str, Any] | Sequence[str]) -> str:
    if str(name) not in names:
        raise BenchError(f"{label}: {what} {name} is unknown{nearest(str(name), names)}")
    return str(name)


def _entry(label: str, table: Table, row: str, column: str) -> Entry:
    entry = table.entries.get((row, column))
    if entry is None:
        raise BenchError(
            f"{label}: table {table.name} has no entry for row {row}, column {column}; draw the whole grid"
        )
    if entry.ours is None:
        raise BenchError(f"{label}: row {row}, column {column} is missing; to fill it: {entry.command}")
    return entry


# --- bars and lines --------------------------------------------------------------------------------------------------

Entries = Mapping[tuple[str, str], Entry]


def _bars(entries: Entries, rows: list[str], columns: list[str]) -> "Figure":
    figure, panels = _panels(entries, columns, width=1.0 + 0.75 * len(rows))
    places, colour = np.arange(len(rows)), dict(zip(columns, cycle(COLOURS), strict=False))
    for unit, (axes, shown) in panels.items():
        wide, handles, printed = 0.8 / len(shown), [], False
        for i, column in enumerate(shown):
            at = places + (i - (len(shown) - 1) / 2) * wide
            value, spread, paper = numbers([entries[row, column] for row in rows])
            style: dict[str, Any] = {"color": colour[column], "ecolor": "#444444", "capsize": 2}
            handles.append(axes.bar(at, value, wide * 0.92, yerr=spread, label=column, **style))
            axes.plot(at, paper, "o", mfc="white", mec="black", ms=5, zorder=3, clip_on=False)
            printed = printed or bool(np.isfinite(paper).any())
        axes.set_xticks(places, rows)
        if max(map(len, rows)) > 8:
            axes.tick_params("x", labelrotation=20)
        if unit == "percent":
            axes.set_ylim(0, 100)
        legend(axes, handles, "o" if printed else None)
    return figure


def _lines(label: str, entries: Entries, rows: list[str], columns: list[str], x_label: str, log_x: bool) -> "Figure":
    at = {row: _x_value(label, row, log_x) for row in rows}
    rows = sorted(rows, key=at.__getitem__)
    x, colour = [at[row] for row in rows], dict(zip(columns, cycle(COLOURS), strict=False))
    figure, panels = _panels(entries, columns, width=3.8)
    for axes, shown in panels.values():
        handles, printed = [], False
        for column in shown:
            ours = [row for row in rows if (row, column) in entries]
            value, spread, paper = numbers([entries[row, column] for row in ours])
            style: dict[str, Any] = {"color": colour[column], "ms": 4}
            place = [at[row] for row in ours]
            handles.append(axes.errorbar(place, value, spread, fmt="o-", capsize=2, label=column, **style))
            axes.plot(place, paper, "o--", mfc="white", **style)
            printed = printed or bool(np.isfinite(paper).any())
        if log_x:
            axes.set_xscale("log")
        axes.set_xticks(x, [f"{each:g}" for each in x])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(x_label)
        legend(axes, handles, "o--" if printed else None)
    return figure


def _x_value(label: str, row: str, log_x: bool) -> float:
    try:
        value = float(row)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (log_x and value <= 0):
        rule = "a positive number, for log_x" if log_x else "a number"
        raise BenchError(f"{label}: row {row} is an x value and must be {rule}; rename the table's row, or pick `rows`")
    return value


def _panels(entries: Entries, columns: list[str], width: float) -> "tuple[Figure, dict[str, tuple[Axes, list[str]]]]":
    """One panel a unit, side by side, with the columns that it shows."""
    metric = {column: entry.metric for (_, column), entry in entries.items()}
    units: dict[str, list[str]] = {}
    for column in columns:
        units.setdefault(UNITS.get(metric[column], "percent"), []).append(column)
    figure = sheet(width * len(units))
    panels = dict(zip(units, figure.subplots(1, len(units), squeeze=False)[0], strict=True))
    for unit, axes in panels.items():
        axes.set_ylabel(unit)
    return figure, {unit: (axes, units[unit]) for unit, axes in panels.items()}
