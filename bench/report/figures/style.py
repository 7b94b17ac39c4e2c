"""What every figure shares: our matplotlib style, the sheet, labels, and files that are the same for the same numbers.

The rules: percents run from 0 to 100; a line is named at its end; no label is turned, long ones are wrapped.
Imports no torch; matplotlib only to draw.
"""

import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.errors import BenchError
from bench.core.place import AnyPlace, beside, of, on_disk
from bench.report.formats.write import save
from bench.report.table import Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 3.2  # inches of a sheet
LINE_HEIGHT = 0.075  # of a panel's height that a line of text takes
Entries = Mapping[tuple[str, str], Entry]  # (row, column)
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
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": "#e5e5e5", "axes.edgecolor": "#888888",
    "xtick.color": "#555555", "ytick.color": "#555555", "xtick.labelcolor": "#222222", "ytick.labelcolor": "#222222",
    "axes.labelcolor": "#222222", "text.color": "#222222", "figure.titlesize": 10, "axes.titlesize": 9,
    "svg.fonttype": "none",  # text stays text: small files whose changes can be read
    "svg.hashsalt": "bench",  # ids in the SVG are random otherwise
}  # fmt: skip


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


def save_figure(figure: "Figure", stem: AnyPlace) -> list[AnyPlace]:
    """<stem>.svg and .png without date and version, so that unchanged numbers give unchanged files."""
    nothing = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    paths = []
    for kind, metadata in nothing.items():
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata=metadata)
        paths.append(save(beside(stem, f"{stem.name}.{kind}"), content.getvalue()))
    return paths


def numbers(entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> (E,) values, (2, E) lengths of the interval below and above, (E,) the paper's; NaN = there is none."""
    ours = [entry.ours for entry in entries if entry.ours is not None]  # figures let no missing ones pass
    value = np.array([each.value for each in ours])
    spread = np.array([[each.value - each.low for each in ours], [each.high - each.value for each in ours]])
    paper = np.array([math.nan if entry.printed is None else entry.printed for entry in entries])
    return value, np.maximum(spread, 0), paper  # Wilson's end can pass the value by rounding


def sheet(width: float, height: float = HEIGHT) -> "Figure":
    """Inches."""
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    return Figure(figsize=(max(width, 4.2), height), layout="constrained")


def wrapped(names: Sequence[str], width: int) -> list[str]:
    """Each in lines of at most `width` letters, where its words allow it."""
    return [textwrap.fill(name, width, break_long_words=False) for name in names]


def percents(axes: "Axes", along: str) -> None:
    """One rule for every axis of percents, so that two figures compare. along: x or y."""
    getattr(axes, f"set_{along}lim")(0, 100)
    getattr(axes, f"set_{along}ticks")([0, 25, 50, 75, 100])


def at_its_end(axes: "Axes", ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names lines right of the panel: (x and y of the line's end, name, colour). Names are moved apart where they would lie on
    each other; a thin line in the line's colour leads to each."""
    low, high = sorted(axes.get_ylim())
    names = wrapped([name for _, _, name, _ in ends], 26)
    gap = LINE_HEIGHT * (high - low) * max((1 + name.count("\n") for name in names), default=1)
    places = apart([height for _, height, _, _ in ends], gap, low, high)
    for place, name, (x, y, _, colour) in zip(places, names, ends, strict=True):
        lead = {"arrowstyle": "-", "color": colour, "lw": 1.0, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)}
        at: Any = {"xytext": (1.06, place), "textcoords": axes.get_yaxis_transform(), "arrowprops": lead}
        axes.annotate(name, (x, y), va="center", annotation_clip=False, **at)


def apart(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The heights, moved as little as goes so that neighbours are `gap` apart and, where there is room, all lie within."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    groups: list[list[int]] = []
    middles: list[float] = []
    for i in order:  # a name that lies on the group below joins it; the group stands around its members' mean
        groups.append([i])
        middles.append(heights[i])
        while len(groups) > 1 and middles[-1] - middles[-2] < gap * (len(groups[-1]) + len(groups[-2])) / 2:
            groups[-2:] = [groups[-2] + groups[-1]]
            half = gap * (len(groups[-1]) - 1) / 2
            mean = sum(heights[j] for j in groups[-1]) / len(groups[-1])
            middles[-2:] = [max(low + half, min(high - half, mean))]
    found = dict[int, float]()
    for group, middle in zip(groups, middles, strict=True):
        found |= {i: middle + gap * (k - (len(group) - 1) / 2) for k, i in enumerate(group)}
    return [found[i] for i in range(len(heights))]


def panels(
    entries: Entries, columns: Sequence[str], width: float, height: float = HEIGHT, share_rows: bool = False
) -> "tuple[Figure, dict[str, tuple[Axes, list[str]]]]":
    """One panel a unit, side by side, with the columns that it shows. share_rows: they have one vertical axis."""
    unit_of = {column: entry.kind.unit for (_, column), entry in entries.items()}
    units: dict[str, list[str]] = {}
    for column in columns:
        units.setdefault(unit_of[column], []).append(column)
    figure = sheet(width * len(units), height)
    drawn = dict(zip(units, figure.subplots(1, len(units), squeeze=False, sharey=share_rows)[0], strict=True))
    for unit, axes in drawn.items():
        axes.set(**{"xlabel" if share_rows else "ylabel": unit})
    return figure, {unit: (axes, units[unit]) for unit, axes in drawn.items()}


def legend(axes: "Axes", handles: list[Any], paper: str | None) -> None:
    """Above the panel, where it hides nothing. `paper`: the style of the printed numbers, where there are any."""
    if paper:
        handles = [*handles, *axes.plot([], [], paper, mfc="white", color="black", ms=5, label="paper")]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, borderaxespad=0.2)


def default_stem(typed: Sequence[str], name: str) -> Path:
    """<store>/figures/<name>: where a script draws when nobody says."""
    store = next((word.partition("=")[2] for word in typed if word.startswith("store=")), "results")
    return on_disk(of(store)) / "figures" / name
