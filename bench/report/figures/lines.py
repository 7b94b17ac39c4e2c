"""A line a column over the rows, whose names are the x values. matplotlib only to draw."""

import math
from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.errors import BenchError
from bench.report.figures import style
from bench.report.figures.style import Entries

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(
    label: str, entries: Entries, rows: Sequence[str], columns: Sequence[str], x_label: str, log_x: bool
) -> "Figure":
    at = {row: _x_value(label, row, log_x) for row in rows}
    rows = sorted(rows, key=at.__getitem__)
    x, colour = [at[row] for row in rows], dict(zip(columns, cycle(style.COLOURS), strict=False))
    form = {column: "o-" if i < len(style.COLOURS) else "s:" for i, column in enumerate(columns)}  # colours come again
    figure, drawn = style.panels(entries, columns, width=4.6)
    for unit, (axes, shown) in drawn.items():
        ends, printed = [], False
        for column in shown:
            ours = [row for row in rows if (row, column) in entries]
            value, spread, paper = style.numbers([entries[row, column] for row in ours])
            look: dict[str, Any] = {"color": colour[column], "ms": 4}
            place = [at[row] for row in ours]
            axes.errorbar(place, value, spread, fmt=form[column], capsize=2, label=column, **look)
            ends.append((place[-1], float(value[-1]), column, colour[column]))
            axes.plot(place, paper, "o--", mfc="white", **look)
            printed = printed or bool(np.isfinite(paper).any())
        if log_x:
            axes.set_xscale("log")
        axes.set_xticks(x, [f"{each:g}" for each in x])
        axes.set_xticks([], minor=True)
        axes.set_xlabel(x_label)
        if unit == "percent":
            style.percents(axes, "y")
        style.at_its_end(axes, ends)
        if printed:
            style.legend(axes, [], "o--")
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
