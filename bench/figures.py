"""An experiment's figures, drawn from its built tables and the store, as SVG and PNG. Imports no torch; matplotlib only to draw.

figures:
  fig1c: {kind: bars, title: ..., table: table1, columns: [Square-2500, logit diff]}        # a group of bars a row
  fig3a: {kind: lines, title: ..., table: alpha, x: alpha, columns: [...], log_x: true}     # row names are the x values
  fig4: {kind: heatmap, title: ..., table: matrix}                                          # a table's numbers, coloured
  fig2b: {kind: trace, title: ..., table: table1, column: Square-2500, rows: [Vanilla, RND]}  # margin against queries

`rows` picks and orders a table's rows; without it, all. Units (percent, logits, queries) have a panel each. Bars and lines carry
the 95% interval; the paper's printed numbers are open markers. The same input gives the same bytes.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench import heatmap
from bench.errors import BenchError, nearest
from bench.metrics import TRACE_AT, mean
from bench.store import Cell
from bench.table import Entry, Table
from bench.write import UNITS, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
]  # Okabe and Ito: colour-blind safe
STYLE: dict[Any, Any] = {
    "font.size": 9, "savefig.dpi": 160, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": "#e5e5e5",
    "svg.fonttype": "none",  # text stays text: small files whose changes can be read
    "svg.hashsalt": "bench",  # ids in the SVG are random otherwise
}  # fmt: skip
COMMON = {"kind", "title", "table", "rows"}
FIELDS = {
    "bars": COMMON | {"columns"}, "lines": COMMON | {"columns", "x", "log_x"}, "trace": COMMON | {"column"},
    "heatmap": COMMON | {"columns"},
}  # fmt: skip
WHOLE = ("robust_acc", "robust_acc_held")  # metrics whose n counts all images, as a trace must


def draw(name: str, spec: Mapping[str, Any], tables: Mapping[str, Table], store: Path, stem: Path) -> list[Path]:
    """<stem>.svg and .png. Raises BenchError where the figure is described wrongly or a cell it shows is missing."""
    label = f"figures.{name}"
    table = _check(label, spec, tables)
    rows = [_known(label, "row", row, table.rows) for row in spec.get("rows") or table.rows]
    chosen = [spec["column"]] if spec["kind"] == "trace" else spec.get("columns") or table.columns
    columns = [_known(label, "column", column, table.columns) for column in chosen]
    entries = {(row, column): _entry(label, table, row, column) for row in rows for column in columns}
    with drawing():
        if spec["kind"] == "bars":
            figure = _bars(entries, rows, columns)
        elif spec["kind"] == "lines":
            figure = _lines(label, entries, rows, columns, str(spec.get("x", "")), bool(spec.get("log_x")))
        elif spec["kind"] == "heatmap":
            figure = heatmap.draw(label, entries, rows, columns)
        else:
            figure = _trace(label, list(entries.values()), store)
        figure.suptitle(str(spec.get("title") or name), x=0.01, ha="left")
        return save_figure(figure, stem)


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib with our style alone, whatever the user's matplotlibrc says. Raises BenchError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise BenchError("figures need matplotlib: pip install matplotlib") from None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def save_figure(figure: "Figure", stem: Path) -> list[Path]:
    """<stem>.svg and .png without date and version, so that unchanged numbers give unchanged files."""
    nothing = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    paths = []
    for kind, metadata in nothing.items():
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata=metadata)
        paths.append(save(stem.with_name(f"{stem.name}.{kind}"), content.getvalue()))
    return paths


# --- what the YAML names ---------------------------------------------------------------------------------------------


def _check(label: str, spec: Mapping[str, Any], tables: Mapping[str, Table]) -> Table:
    kind = str(spec.get("kind"))
    if kind not in FIELDS:
        raise BenchError(f"{label}: kind {kind} is unknown{nearest(kind, FIELDS)}")
    for field in spec:
        if field not in FIELDS[kind]:
            raise BenchError(f"{label}.{field} is unknown{nearest(str(field), FIELDS[kind])}")
    column = "column" if kind == "trace" else "columns"
    for field in ("table",) if kind == "heatmap" else ("table", column):
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
            value, spread, paper = _numbers([entries[row, column] for row in rows])
            style: dict[str, Any] = {"color": colour[column], "ecolor": "#444444", "capsize": 2}
            handles.append(axes.bar(at, value, wide * 0.92, yerr=spread, label=column, **style))
            axes.plot(at, paper, "o", mfc="white", mec="black", ms=5, zorder=3, clip_on=False)
            printed = printed or bool(np.isfinite(paper).any())
        axes.set_xticks(places, rows)
        if max(map(len, rows)) > 8:
            axes.tick_params("x", labelrotation=20)
        if unit == "percent":
            axes.set_ylim(0, 100)
        _legend(axes, handles, "o" if printed else None)
    return figure


def _lines(label: str, entries: Entries, rows: list[str], columns: list[str], x_label: str, log_x: bool) -> "Figure":
    at = {row: _x_value(label, row, log_x) for row in rows}
    rows = sorted(rows, key=at.__getitem__)
    x, colour = [at[row] for row in rows], dict(zip(columns, cycle(COLOURS), strict=False))
    figure, panels = _panels(entries, columns, width=3.8)
    for axes, shown in panels.values():
        handles, printed = [], False
        for column in shown:
            value, spread, paper = _numbers([entries[row, column] for row in rows])
            style: dict[str, Any] = {"color": colour[column], "ms": 4}
            handles.append(axes.errorbar(x, value, spread, fmt="o-", capsize=2, label=column, **style))
            axes.plot(x, paper, "o--", mfc="white", **style)
            printed = printed or bool(np.isfinite(paper).any())
        if log_x:
            axes.set_xscale("log")
        axes.set_xticks(x, [f"{each:g}" for each in x])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(x_label)
        _legend(axes, handles, "o--" if printed else None)
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


def _numbers(entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> (E,) values, (2, E) lengths of the interval below and above, (E,) the paper's; NaN = there is none."""
    ours = [entry.ours for entry in entries if entry.ours is not None]  # `_entry` let no missing ones pass
    value = np.array([each.value for each in ours])
    spread = np.array([[each.value - each.low for each in ours], [each.high - each.value for each in ours]])
    paper = np.array([math.nan if entry.printed is None else entry.printed for entry in entries])
    return value, np.maximum(spread, 0), paper  # Wilson's end can pass the value by rounding


def _panels(entries: Entries, columns: list[str], width: float) -> "tuple[Figure, dict[str, tuple[Axes, list[str]]]]":
    """One panel a unit, side by side, with the columns that it shows."""
    metric = {column: entry.metric for (_, column), entry in entries.items()}
    units: dict[str, list[str]] = {}
    for column in columns:
        units.setdefault(UNITS.get(metric[column], "percent"), []).append(column)
    figure = _figure(width * len(units))
    panels = dict(zip(units, figure.subplots(1, len(units), squeeze=False)[0], strict=True))
    for unit, axes in panels.items():
        axes.set_ylabel(unit)
    return figure, {unit: (axes, units[unit]) for unit, axes in panels.items()}


def _figure(width: float) -> "Figure":
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    return Figure(figsize=(max(width, 4.2), 3.2), layout="constrained")


def _legend(axes: "Axes", handles: list[Any], paper: str | None) -> None:
    """Above the panel, where it hides nothing. `paper`: the style of the printed numbers, where there are any."""
    if paper:
        handles = [*handles, *axes.plot([], [], paper, mfc="white", color="black", ms=5, label="paper")]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, borderaxespad=0.2)


# --- trace -----------------------------------------------------------------------------------------------------------


def _trace(label: str, entries: Sequence[Entry], store: Path) -> "Figure":
    figure = _figure(5.0)
    axes = figure.subplots()
    axes.axhline(0, color="#888888", lw=0.8)  # below it the attack has succeeded
    handles = []
    for i, entry in enumerate(entries):
        x, middle, low, high = trace_curve(*_traced(label, entry, store))
        colour = COLOURS[i % len(COLOURS)]
        handles += axes.plot(x, middle, "o-", ms=3, color=colour, label=entry.row)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    axes.set_xscale("log")
    axes.set_xlabel("queries")
    axes.set_ylabel("lowest margin loss so far (mean)")
    _legend(axes, handles, None)
    return figure


def _traced(label: str, entry: Entry, store: Path) -> tuple[pd.DataFrame, int]:
    """The entry's records and n. Raises BenchError where its cell was run before traces were kept."""
    if entry.metric not in WHOLE or entry.ours is None:
        raise BenchError(f"{label}: column {entry.column} is {entry.metric}; a trace needs one of {', '.join(WHOLE)}")
    cell, n = Cell(store, entry.key), entry.ours.n
    frame = cell.frame()
    wanted = frame.loc[frame["clean"] & (frame["position"] < n)]
    if "trace" not in frame or any(each is None or len(each) != len(TRACE_AT) for each in wanted["trace"]):
        raise BenchError(
            f"{label}: the cell of row {entry.row} has no trace; move {cell.folder} away, then: {entry.command}"
        )
    return frame, n


def trace_curve(frame: pd.DataFrame, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """-> checkpoints within the budget, and there the mean of the lowest margin so far with its 95% interval, over those of the
    first n samples that were right when clean."""
    chosen = frame.loc[frame["clean"] & (frame["position"] < n), "trace"]
    traces = np.array([np.asarray(each, dtype=np.float64) for each in chosen]).reshape(-1, len(TRACE_AT))
    within = ~np.isnan(traces).all(axis=0)
    if np.isnan(traces[:, within]).any():
        raise BenchError("some traces end before others: their mean would be over other images; run the cell anew")
    points = [mean(column) for column in traces[:, within].T]
    middle, low, high = (np.array([getattr(point, part) for point in points]) for part in ("value", "low", "high"))
    return np.array(TRACE_AT)[within], middle, low, high
