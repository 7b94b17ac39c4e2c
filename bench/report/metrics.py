"""Records -> (value, n, 95% interval): the only means over samples. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, sqrt
from typing import Any

import numpy as np
import pandas as pd

from bench.core.errors import BenchError, nearest

Z = 1.959964  # 95%
TRACE_AT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 2500, 5000, 10_000)  # queries at which the margin is kept


@dataclass(frozen=True)
class Value:
    value: float
    n: int
    low: float
    high: float
    shown: str = ""  # instead of the number, where that alone says too little


@dataclass(frozen=True)
class Frames:
    """What one table cell may be computed from; each frame has one row a sample, sorted by position."""

    clean: pd.DataFrame  # the clean pass of the row's victim
    attack: pd.DataFrame | None = None
    reference: pd.DataFrame | None = None  # the clean pass of the undefended net
    at: int | None = None  # a budget below the cell's own, for attacks whose first queries don't depend on it
    all_clean: pd.DataFrame | None = None  # the clean pass on all images that it has, maybe more than were attacked


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
    if n < 6:  # of so few, not even the least and the greatest hold it with 95%
        return Value(float(np.median(ordered)) if n else float("nan"), n, float("nan"), float("nan"))
    half = Z * sqrt(n) / 2
    low, high = max(int(np.floor(n / 2 - half)), 0), min(int(np.ceil(n / 2 + half)), n - 1)
    return Value(float(np.median(ordered)), n, float(ordered[low]), float(ordered[high]))


def _clean_acc(f: Frames) -> Value:
    return _share(f.clean["clean"])


def _robust_acc(f: Frames) -> Value:
    """Right when clean and not fooled within the budget, out of all images (first hit, never asked again)."""
    return _share(_attacked(f)["clean"] & ~_fooled(f))


def _robust_acc_held(f: Frames) -> Value:
    """As robust_acc, but an image counts as broken if the found example fools in most of its re-asks."""
    frame = _attacked(f)
    return _share(frame["clean"] & ~_held(frame, f.at))


def _held(frame: pd.DataFrame, at: int | None) -> Any:
    """Boolean column: broken by most re-asks. A query attack's images were asked again where one fooled; those of a white-box
    attack on a random victim all were, so that a lucky first answer counts for neither side."""
    fooled = within(frame, at)
    mostly = frame["holds"].gt(0.5).where(frame["holds"].notna(), fooled)
    return mostly if at is None else mostly & fooled


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
    return within(_attacked(f), f.at)


def within(frame: pd.DataFrame, at: int | None) -> Any:
    """Boolean column: fooled, where `at` is given within a smaller budget."""
    return frame["fooled"] if at is None else frame["fooled"] & (frame["queries"] <= at)


def _survival(f: Frames) -> Value:
    """The GCM paper's AR: still right under attack, of those right when clean."""
    return _share(~_fooled(f)[_attacked(f)["clean"]])


def _mean_passes(f: Frames) -> Value:
    """Forward passes that a white-box attacker spent on an attacked image."""
    return mean(_attacked(f)["passes_fwd"].dropna().to_numpy(dtype=float))


def _median_distance(f: Frames, norm: str) -> Value:
    """Of the examples found, inside the ball or not."""
    frame = _attacked(f)
    return median(frame.loc[frame["margin"] < 0, norm].to_numpy(dtype=float))


def _clean_x_survival(f: Frames) -> Value:
    """The UniG paper's own way (sheet, 9.1): clean accuracy on all images x the share of attacked ones that survive."""
    frame, clean = _attacked(f), f.clean if f.all_clean is None else f.all_clean
    right = frame["clean"]
    survival, scale = _share(~_fooled(f)[right]), float(np.mean(clean["clean"]))
    return Value(survival.value * scale, survival.n, survival.low * scale, survival.high * scale)


def union(metric: str, attacks: list[tuple[pd.DataFrame, int | None]]) -> Value:
    """Images that are right when clean and that none of the attacks (frame, budget) breaks, among those that all of them were
    run on. worst: broken at the first hit; worst_held: only if the found image fools in most re-asks, too.
    """
    common = sorted(set.intersection(*(set(frame["sample"].tolist()) for frame, _ in attacks)))
    robust = pd.Series(True, index=common, dtype=bool)
    for frame, at in attacks:
        some = frame[frame["sample"].isin(common)].set_index("sample")
        broken = _held(some, at) if metric == "worst_held" else within(some, at)
        robust &= some["clean"] & ~broken
    return _share(robust)


def mcnemar(ours: pd.DataFrame, other: pd.DataFrame) -> Value:
    """Exact two-sided McNemar test on the same images (McNemar 1947): does one of two victims break on more of those on
    which they differ? The value is p."""
    both = ours.merge(other, on="sample", suffixes=("", "_other"), validate="one_to_one")
    kept, kept_other = both["clean"] & ~both["fooled"], both["clean_other"] & ~both["fooled_other"]
    b, c = int(np.count_nonzero(kept & ~kept_other)), int(np.count_nonzero(kept_other & ~kept))
    p = min(1.0, 2 * sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c))
    return Value(p, len(both), float("nan"), float("nan"), f"p {p:.2g} ({b} : {c})")


def cost(metric: str, told: dict[str, Any]) -> Value:
    """parameters in millions, macs in GMac an image, as the first run of the clean pass measured them."""
    value = float(told[metric]) / (1e6 if metric == "parameters" else 1e9)
    return Value(value, 1, float("nan"), float("nan"), f"{value:.3g}")


UNIONS = ("worst", "worst_held")
COSTS = ("parameters", "macs")
METRICS: dict[str, Callable[[Frames], Value]] = {
    "clean_acc": _clean_acc,
    "logit_diff": _logit_diff,
    "robust_acc": _robust_acc,
    "robust_acc_held": _robust_acc_held,
    "clean_x_survival": _clean_x_survival,
    "survival": _survival,
    "mean_passes": _mean_passes,
    "median_linf": lambda f: _median_distance(f, "linf"),
    "median_l2": lambda f: _median_distance(f, "l2"),
    "median_l1": lambda f: _median_distance(f, "l1"),
    "holds": _holds,
    "mean_queries_success": _mean_queries_success,
    "median_queries_success": lambda f: median(_success_queries(f)),
}
