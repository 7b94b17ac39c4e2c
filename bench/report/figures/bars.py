"""A group of bars a row, a bar a column, with the 95% interval; the paper's numbers are open markers. The bars lie, so that names
need no turning; each has its number beside the panel. matplotlib only to draw."""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.report.figures import style
from bench.report.figures.style import Entries
from bench.report.formats.pieces import pieces

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(entries: Entries, rows: Sequence[str], columns: Sequence[str]) -> "Figure":
    lines = style.wrapped(rows, 22)
    height = 1.1 + sum(0.2 + max(0.17 * name.count("\n"), 0.2 * min(len(columns), 4)) for name in lines)
    figure, drawn = style.panels(entries, columns, width=4.4, height=max(height, 1.8), share_rows=True)
    places, colour = np.arange(len(rows)), dict(zip(columns, cycle(style.COLOURS), strict=False))
    for unit, (axes, shown) in drawn.items():
        tall, handles, printed = 0.8 / len(shown), [], False
        for i, column in enumerate(shown):
            at = places + (i - (len(shown) - 1) / 2) * tall
            value, spread, paper = style.numbers([entries[row, column] for row in rows])
            look: dict[str, Any] = {"color": colour[column], "ecolor": "#444444", "capsize": 2}
            handles.append(axes.barh(at, value, tall * 0.92, xerr=spread, label=column, **look))
            axes.plot(paper, at, "o", mfc="white", mec="black", ms=5, zorder=3, clip_on=False)
            printed = printed or bool(np.isfinite(paper).any())
            for place, row in zip(at, rows, strict=True):
                said, beside = pieces(entries[row, column]).value, axes.get_yaxis_transform()
                axes.annotate(said, (1.03, place), xycoords=beside, va="center", fontsize=8, annotation_clip=False)
        axes.set_yticks(places, lines)
        axes.tick_params("y", length=0)
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        if unit == "percent":
            style.percents(axes, "x")
        if len(shown) == 1 and not printed:
            axes.set_title(shown[0], loc="left")
        else:
            style.legend(axes, handles, "o" if printed else None)
    next(iter(drawn.values()))[0].invert_yaxis()  # shared: the first row stands above
    return figure
