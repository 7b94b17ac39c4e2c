"""What makes a robust accuracy hard to believe: signs of masked gradients, from the records of a row's cells. Imports no torch.

A column of a table:

  {name: flags, metric: flags, of: {white_box: [columns], adaptive: [...], black_box: [...], transfer: [...],
   weaker_first: [[...], ...], huge_eps: [...], restarts: [one, many]}}

adaptive: white-box columns that go around the defence (BPDA, EOT); white_box: those that don't. Accuracies are compared on the
images that the columns have in common. Every list may be left out; a row's `without` columns are skipped. The signs are those of
Athalye et al. 2018 (section 3.1) and Carlini et al. 2019 (section 3): whatever they point at, the headline is the row's worst
case over all cells.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from bench.core.errors import BenchError, nearest
from bench.report.metrics import Value, share

GROUPS = ("white_box", "adaptive", "black_box", "transfer", "weaker_first", "huge_eps", "restarts")
ZERO = 0.5  # share of zero entries above which gradients count as gone
SLACK = 1.0  # points of robust accuracy that are no contradiction
STANDING = 5.0  # percent that may stand at a huge eps

Frame = Callable[[str], pd.DataFrame]


def flags(of: Mapping[str, Any], frame: Frame) -> Value:
    """The value is how many signs there are, `shown` names them. frame: column name -> records of its cell in this row.
    Raises BenchError for an unknown group."""
    for group in of:
        if group not in GROUPS:
            raise BenchError(f"metric flags: `of` has no group {group}{nearest(str(group), GROUPS)}")
    white, adaptive = (list(of.get(group) or []) for group in ("white_box", "adaptive"))
    found = _gradients([frame(name) for name in [*white, *adaptive]])
    for group, what, known in (
        ("adaptive", "adaptive", white),
        ("black_box", "black-box", [*white, *adaptive]),
        ("transfer", "transfer", [*white, *adaptive]),
    ):
        others = list(of.get(group) or [])
        if known and others:
            left = _common([frame(name) for name in [*known, *others]])
            strongest, best = min(left[: len(known)]), min(left[len(known) :])
            if best < strongest - SLACK:
                found.append(f"{what} beats white-box ({best:.1f} < {strongest:.1f})")
    for names in of.get("weaker_first") or []:
        for before, after in pairwise(names):
            first, then = _common([frame(before), frame(after)])
            if then > first + SLACK:
                found.append(f"{after} is weaker than {before} ({then:.1f} > {first:.1f})")
    for name in of.get("huge_eps") or []:
        if (left_standing := robust(frame(name))) > STANDING:
            found.append(f"{left_standing:.1f} stand at {name}")
    few, many = [*(of.get("restarts") or []), None, None][:2]
    if few and many:
        one, more = _common([frame(few), frame(many)])
        if more < one - SLACK:
            found.append(f"restarts add ({one:.1f} -> {more:.1f})")
    n = max((len(frame(name)) for name in white), default=0)
    return Value(len(found), n, float("nan"), float("nan"), "; ".join(found) or "none")


def _common(frames: list[pd.DataFrame]) -> list[float]:
    """Robust accuracy of each, on the images that all of them have."""
    both = list(set.intersection(*(set(each["sample"].tolist()) for each in frames)))
    return [robust(each.loc[each["sample"].isin(both)]) for each in frames]


def robust(frame: pd.DataFrame) -> float:
    """Percent of all images."""
    standing = frame["clean"].to_numpy(dtype=bool) & ~frame["fooled"].to_numpy(dtype=bool)
    return share(int(standing.sum()), len(standing)).value


def _gradients(frames: list[pd.DataFrame]) -> list[str]:
    """Zero and non-finite gradients among the white-box cells' attacked images."""
    found = []
    zero = [float(np.nanmean(each)) for each in _columns(frames, "grad_zero")]
    if zero and max(zero) > ZERO:
        found.append(f"zero gradients ({max(zero):.0%} of entries)")
    broken = [float(np.mean(each > 0)) for each in _columns(frames, "grad_nonfinite")]
    if broken and max(broken) > 0:
        found.append(f"non-finite gradients ({max(broken):.0%} of images)")
    return found


def _columns(frames: list[pd.DataFrame], name: str) -> list[np.ndarray]:
    """Of the attacked images that got a gradient at all."""
    columns = (frame[name].to_numpy(dtype=float) for frame in frames)
    return [some for column in columns if len(some := column[~np.isnan(column)])]
