"""What every figure shares: our matplotlib style, the sheet, the legend, and files that are the same for the same numbers.

Imports no torch; matplotlib only to draw.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.errors import BenchError
from bench.report.formats.write import save
from bench.report.table import Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": "#e5e5e5",
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


def save_figure(figure: "Figure", stem: Path) -> list[Path]:
    """<stem>.svg and .png without date and version, so that unchanged numbers give unchanged files."""
    nothing = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}
    paths = []
    for kind, metadata in nothing.items():
        content = io.BytesIO()
        figure.savefig(content, format=kind, metadata=metadata)
        paths.append(save(stem.with_name(f"{stem.name}.{kind}"), content.getvalue()))
    return paths


def numbers(entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> (E,) values, (2, E) lengths of the interval below and above, (E,) the paper's; NaN = there is none."""
    ours = [entry.ours for entry in entries if entry.ours is not None]  # figures let no missing ones pass
    value = np.array([each.value for each in ours])
    spread = np.array([[each.value - each.low for each in ours], [each.high - each.value for each in ours]])
    paper = np.array([math.nan if entry.printed is None else entry.printed for entry in entries])
    return value, np.maximum(spread, 0), paper  # Wilson's end can pass the value by rounding


def sheet(width: float) -> "Figure":
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    return Figure(figsize=(max(width, 4.2), 3.2), layout="constrained")


def panels(
    entries: Entries, columns: Sequence[str], width: float
) -> "tuple[Figure, dict[str, tuple[Axes, list[str]]]]":
    """One panel a unit, side by side, with the columns that it shows."""
    unit_of = {column: entry.kind.unit for (_, column), entry in entries.items()}
    units: dict[str, list[str]] = {}
    for column in columns:
        units.setdefault(unit_of[column], []).append(column)
    figure = sheet(width * len(units))
    drawn = dict(zip(units, figure.subplots(1, len(units), squeeze=False)[0], strict=True))
    for unit, axes in drawn.items():
        axes.set_ylabel(unit)
    return figure, {unit: (axes, units[unit]) for unit, axes in drawn.items()}


def legend(axes: "Axes", handles: list[Any], paper: str | None) -> None:
    """Above the panel, where it hides nothing. `paper`: the style of the printed numbers, where there are any."""
    if paper:
        handles = [*handles, *axes.plot([], [], paper, mfc="white", color="black", ms=5, label="paper")]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, columnspacing=1.2, borderaxespad=0.2)


def default_stem(typed: Sequence[str], name: str) -> Path:
    """<store>/figures/<name>: where a script draws when nobody says."""
    store = next((word.partition("=")[2] for word in typed if word.startswith("store=")), "results")
    return Path(store) / "figures" / name
