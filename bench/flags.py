"""What makes a robust accuracy hard to believe: signs of masked gradients, from the records of a row's cells. Imports no torch.

A column of a table:

  {name: flags, metric: flags, of: {white_box: [columns], black_box: [...], transfer: [...], weaker_first: [[...], ...],
   huge_eps: [...], restarts: [one, many]}}

Every list may be left out; a row's `without` columns are skipped. The signs are those of Athalye et al. 2018 (section 3.1) and
Carlini et al. 2019 (section 3): whatever they point at, the row's headline is its worst case over all cells.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import BenchError, nearest
from bench.metrics import Value, share

GROUPS = ("white_box", "black_box", "transfer", "weaker_first", "huge_eps", "restarts")
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
    white = list(of.get("white_box") or [])
    found = _gradients([frame(name) for name in white])
    strongest = min((robust(frame(name)) for name in white), default=None)
    for group, what in (("black_box", "black-box"), ("transfer", "transfer")):
        best = min((robust(frame(name)) for name in of.get(group) or []), default=None)
        if strongest is not None and best is not None and best < strongest - SLACK:
            found.append(f"{what} beats white-box ({best:.1f} < {strongest:.1f})")
    for names in of.get("weaker_first") or []:
        found += [
            f"{after} is weaker than {before} ({robust(frame(after)):.1f} > {robust(frame(before)):.1f})"
            for before, after in pairwise(names)
            if robust(frame(after)) > robust(frame(before)) + SLACK
        ]
    for name in of.get("huge_eps") or []:
        if (left := robust(frame(name))) > STANDING:
            found.append(f"{left:.1f} stand at {name}")
    few, many = [*(of.get("restarts") or []), None, None][:2]
    if few and many and robust(frame(many)) < robust(frame(few)) - SLACK:
        found.append(f"restarts add ({robust(frame(few)):.1f} -> {robust(frame(many)):.1f})")
    n = max((len(frame(name)) for name in white), default=0)
    return Value(len(found), n, float("nan"), float("nan"), "; ".join(found) or "none")


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
