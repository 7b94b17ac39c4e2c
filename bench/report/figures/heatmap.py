"""A table's numbers as coloured fields, such as a transfer matrix: rows are sources, columns targets. matplotlib only to draw."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bench.core.errors import BenchError
from bench.report.figures import style
from bench.report.formats.pieces import pieces
from bench.report.table import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = "cividis"  # readable in grey and for the colour-blind; dark is low


def draw(label: str, entries: Mapping[tuple[str, str], Entry], rows: Sequence[str], columns: Sequence[str]) -> "Figure":
    """Percent are coloured over 0..100, so that two figures compare. Raises BenchError where the units differ."""
    from matplotlib.figure import Figure

    units = {entry.kind.unit for entry in entries.values()}
    if len(units) > 1:
        raise BenchError(f"{label}: a heat map has one unit, these columns {', '.join(sorted(units))}; pick `columns`")
    ours = [[entries[row, column].ours for column in columns] for row in rows]
    values = np.array([[np.nan if each is None else each.value for each in line] for line in ours])
    lines = max(name.count("\n") for name in style.wrapped(columns, 12))
    figure = Figure(figsize=(2.6 + 0.95 * len(columns), 1.4 + 0.15 * lines + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    low, high = (0.0, 100.0) if units == {"percent"} else (float(np.nanmin(values)), float(np.nanmax(values)))
    image = axes.imshow(values, cmap=COLOURS, vmin=low, vmax=high, aspect="auto")
    for at, row in enumerate(rows):
        for place, column in enumerate(columns):
            dark = values[at, place] < (low + high) / 2
            said = pieces(entries[row, column]).value
            axes.text(place, at, said, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(np.arange(len(columns)), style.wrapped(columns, 12))
    axes.set_yticks(np.arange(len(rows)), style.wrapped(rows, 24))
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label=units.pop())
    return figure
