"""A group of bars a row, a bar a column, with the 95% interval; the paper's numbers are open markers. matplotlib only to draw."""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.report.figures import style
from bench.report.figures.style import Entries

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(entries: Entries, rows: Sequence[str], columns: Sequence[str]) -> "Figure":
    figure, drawn = style.panels(entries, columns, width=1.0 + 0.75 * len(rows))
    places, colour = np.arange(len(rows)), dict(zip(columns, cycle(style.COLOURS), strict=False))
    for unit, (axes, shown) in drawn.items():
        wide, handles, printed = 0.8 / len(shown), [], False
        for i, column in enumerate(shown):
            at = places + (i - (len(shown) - 1) / 2) * wide
            value, spread, paper = style.numbers([entries[row, column] for row in rows])
            look: dict[str, Any] = {"color": colour[column], "ecolor": "#444444", "capsize": 2}
            handles.append(axes.bar(at, value, wide * 0.92, yerr=spread, label=column, **look))
            axes.plot(at, paper, "o", mfc="white", mec="black", ms=5, zorder=3, clip_on=False)
            printed = printed or bool(np.isfinite(paper).any())
        axes.set_xticks(places, rows)
        if max(map(len, rows)) > 8:
            axes.tick_params("x", labelrotation=20)
        if unit == "percent":
            axes.set_ylim(0, 100)
        style.legend(axes, handles, "o" if printed else None)
    return figure
