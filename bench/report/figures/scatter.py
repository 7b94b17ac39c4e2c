"""One column of a table against others, such as clean against adversarial accuracy: a point a row. matplotlib only to draw.

A group of rows, such as one method at several weights, has one colour, one marker, and a line through its points in the order
in which `groups` names them. Every point carries both of its 95% intervals.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

from bench.core.errors import BenchError
from bench.report.figures import style
from bench.report.table import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def draw(
    entries: Mapping[tuple[str, str], Entry], groups: Mapping[str, Sequence[str]], x: str, columns: Sequence[str]
) -> "Figure":
    """A panel a column, with `x` across. groups: {name: rows}."""
    across = 3.0 * len(columns)
    figure = style.sheet(across)
    panels = figure.subplots(1, len(columns), sharex=True, squeeze=False)[0]
    handles: list[Any] = []
    for axes, column in zip(panels, columns, strict=True):
        looks = zip(groups.items(), cycle(style.COLOURS), cycle(MARKERS), strict=False)
        handles = []
        for (name, rows), colour, marker in looks:
            place, beside, _ = style.numbers([entries[row, x] for row in rows])
            height, above, _ = style.numbers([entries[row, column] for row in rows])
            look: dict[str, Any] = {"color": colour, "marker": marker, "ms": 5, "lw": 0.8, "elinewidth": 0.6}
            handles.append(axes.errorbar(place, height, above, beside, label=name, **look))
        axes.set_title(column, fontsize=9, loc="left")
        axes.set_xlabel(f"{x} ({_unit(entries, x)})")
        axes.set_ylabel(f"{column} ({_unit(entries, column)})")
        axes.grid(True, axis="both")
        if _unit(entries, column) == "percent":
            style.percents(axes, "y")
    figure.legend(handles=handles, loc="outside lower left", ncols=max(2, int(across / 1.6)), columnspacing=1.2)
    return figure


def grouped(label: str, groups: Mapping[str, Sequence[str]] | None, rows: Sequence[str]) -> dict[str, list[str]]:
    """{group: rows} as the YAML names them; without groups, each row is one of its own. Raises BenchError where a row is in two
    groups or in none, or a group names a row that is not drawn."""
    if groups is None:
        return {row: [row] for row in rows}
    named = [row for names in groups.values() for row in names]
    for row in [*named, *rows]:
        if named.count(row) != 1 or row not in rows:
            where = "no row of the figure" if row not in rows else f"in {named.count(row)} groups"
            raise BenchError(f"{label}.groups: {row} is {where}; each drawn row belongs to one group")
    return {name: list(names) for name, names in groups.items()}


def _unit(entries: Mapping[tuple[str, str], Entry], column: str) -> str:
    return next(entry.kind.unit for (_, name), entry in entries.items() if name == column)
