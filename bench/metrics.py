"""Records -> (value, n, 95% interval): the only means over samples. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError, nearest

Z = 1.959964  # 95%
TRACE_AT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 2500, 5000, 10_000)  # queries at which the margin is kept


@dataclass(frozen=True)
class Value:
    value: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Frames:
    """What one table cell may be computed from; each frame has one row a sample, sorted by position."""

    clean: pd.DataFrame  # the clean pass of the row's victim
    attack: pd.DataFrame | None = None
    reference: pd.DataFrame | None = None  # the clean pass of the undefended net
    at: int | None = None  # a budget below the cell's own, for attacks whose first queries don't depend on it


def compute(metric: str, frames: Frames) -> Value:
    """Raises BenchError for an unknown metric."""
    if metric not in METRICS:
        raise BenchError(f"metric {metric} is unknown{nearest(metric, METRICS)}")
    return METRICS[metric](frames)


def share(hits: int, n: int) -> Value:
    """Percent with Wilson's interval."""
    if n == 0:
        return Value(float("nan"), 0, float("nan"), float("nan"))
    p, z2 = hits / n, Z * Z
    middle, spread = p + z2 / (2 * n), Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (middle - spread) / (1 + z2 / n), (middle + spread) / (1 + z2 / n)
    return Value(100 * p, n, 100 * max(low, 0.0), 100 * min(high, 1.0))


def _share(column: Any) -> Value:
    return share(int(np.count_nonzero(column)), len(column))


def mean(values: np.ndarray) -> Value:
    """Mean with the normal interval; no interval for fewer than 2 values."""
    n = len(values)
    if n == 0:
        return Value(float("nan"), 0, float("nan"), float("nan"))
    half = Z * float(values.std(ddof=1)) / sqrt(n) if n > 1 else float("nan")
    return Value(float(values.mean()), n, float(values.mean()) - half, float(values.mean()) + half)


def median(values: np.ndarray) -> Value:
    """Median with the binomial (order statistic) interval."""
    n, ordered = len(values), np.sort(values)
    if n == 0:
        return Value(float("nan"), 0, float("nan"), float("nan"))
    half = Z * sqrt(n) / 2
    low, high = max(int(np.floor(n / 2 - half)), 0), min(int(np.ceil(n / 2 + half)), n - 1)
    return Value(float(np.median(ordered)), n, float(ordered[low]), float(ordered[high]))


def _clean_acc(f: Frames) -> Value:
    return _share(f.clean["clean"])


def _robust_acc(f: Frames) -> Value:
    """Right when clean and not fooled within the budget, out of all images (first hit, never asked again)."""
    return _share(_attacked(f)["clean"] & ~_fooled(f))


def _robust_acc_held(f: Frames) -> Value:
    """As robust_acc, but an image counts as broken only if the found example fools in most of its re-asks."""
    frame = _attacked(f)
    broken = _fooled(f) & (frame["holds"].fillna(1.0) > 0.5)
    return _share(frame["clean"] & ~broken)


def _holds(f: Frames) -> Value:
    """Mean share of re-asks in which a found image still fools, in percent; 100 for a deterministic victim."""
    found = mean(100 * _attacked(f).loc[_fooled(f), "holds"].fillna(1.0).to_numpy(dtype=float))
    return Value(found.value, found.n, max(found.low, 0.0), min(found.high, 100.0))


def _success_queries(f: Frames) -> np.ndarray:
    return _attacked(f).loc[_fooled(f), "queries"].to_numpy(dtype=float)


def _mean_queries_success(f: Frames) -> Value:
    found = mean(_success_queries(f))
    return Value(found.value, found.n, max(found.low, 1.0), found.high)  # no attack succeeds before its first query


def _logit_diff(f: Frames) -> Value:
    """Mean l2 distance of raw logits to the undefended net's, on the same clean images."""
    if f.reference is None:
        raise BenchError("metric logit_diff needs `reference` in the table's YAML, such as {defense: none}")
    both = f.clean.merge(f.reference, on="sample", suffixes=("", "_reference"), validate="one_to_one")
    gap = np.stack(list(both["logits"])) - np.stack(list(both["logits_reference"]))
    return mean(np.linalg.norm(gap.astype(np.float64), axis=1))


def _attacked(f: Frames) -> pd.DataFrame:
    if f.attack is None:
        raise BenchError("this metric needs an attack: name one in the column's `where`")
    return f.attack


def _fooled(f: Frames) -> Any:
    """Boolean column: fooled within the budget."""
    frame = _attacked(f)
    return frame["fooled"] if f.at is None else frame["fooled"] & (frame["queries"] <= f.at)


METRICS: dict[str, Callable[[Frames], Value]] = {
    "clean_acc": _clean_acc,
    "logit_diff": _logit_diff,
    "robust_acc": _robust_acc,
    "robust_acc_held": _robust_acc_held,
    "holds": _holds,
    "mean_queries_success": _mean_queries_success,
    "median_queries_success": lambda f: median(_success_queries(f)),
}
