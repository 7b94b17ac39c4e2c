"""Margin against queries, from the records of a table's entries. matplotlib only to draw."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.core.errors import BenchError
from bench.core.place import Place
from bench.report.figures import style
from bench.report.records import Records
from bench.report.table import Entry
from bench.report.values import mean
from bench.store.trace import TRACE_AT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHOLE = ("robust_acc", "robust_acc_re_evaluated")  # metrics whose n counts all images, as a trace must


def draw(label: str, entries: Sequence[Entry], store: Place, records: Records) -> "Figure":
    """One curve an entry: the lowest margin so far against queries."""
    figure = style.sheet(5.0)
    axes = figure.subplots()
    axes.axhline(0, color="#888888", lw=0.8)  # below it the attack has succeeded
    ends = []
    for i, entry in enumerate(entries):
        x, middle, low, high = curve(*_traced(label, entry, store, records))
        colour = style.COLOURS[i % len(style.COLOURS)]
        axes.plot(x, middle, "o-", ms=3, color=colour, label=entry.row)
        ends += [(float(at), float(each), entry.row, colour) for at, each in zip(x[-1:], middle[-1:], strict=True)]
        axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("queries")
    axes.set_ylabel("lowest margin loss so far (mean)")
    style.at_its_end(axes, ends)
    return figure


def _traced(label: str, entry: Entry, store: Place, records: Records) -> tuple[pd.DataFrame, int]:
    """The entry's records and n. Raises BenchError where its cell was run before traces were kept."""
    if entry.metric not in WHOLE or entry.ours is None:
        raise BenchError(f"{label}: column {entry.column} is {entry.metric}; a trace needs one of {', '.join(WHOLE)}")
    n = entry.ours.n
    frame = records.frame(store, entry.key, ["sample", "position", "clean", "trace"])
    wanted = frame.loc[frame["clean"] & (frame["position"] < n)]
    if any(each is None or len(each) != len(TRACE_AT) for each in wanted["trace"]):
        raise BenchError(
            f"{label}: the cell of row {entry.row} has no trace; move {store / 'cells' / entry.key} away, then: {entry.command}"
        )
    return frame, n


def curve(frame: pd.DataFrame, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """-> checkpoints within the budget, and there the mean of the lowest margin so far with its 95% interval, over those of the
    first n samples that were correctly classified."""
    chosen = frame.loc[frame["clean"] & (frame["position"] < n), "trace"]
    traces = np.array([np.asarray(each, dtype=np.float64) for each in chosen]).reshape(-1, len(TRACE_AT))
    within = ~np.isnan(traces).all(axis=0)
    if np.isnan(traces[:, within]).any():
        raise BenchError("some traces end before others: their mean would be over other images; run the cell anew")
    points = [mean(column) for column in traces[:, within].T]
    middle, low, high = (np.array([getattr(point, part) for point in points]) for part in ("value", "low", "high"))
    return np.array(TRACE_AT)[within], middle, low, high
