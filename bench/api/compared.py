"""Paired comparison of robust accuracy: the same images under two cells. Imports no torch.

The interval of the difference is Wald's with the paired variance (Agresti and Min 2005, equation 1, with 1/2 added to each cell),
the p value McNemar's exact one (binomial on the discordant images).
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from bench.api.stored import keys
from bench.core.errors import BenchError
from bench.core.place import Place
from bench.report.values import Z
from bench.store.records import Cell


@dataclass(frozen=True)
class Compared:
    a: str
    b: str
    n: int  # images that both have
    robust_a: float  # percent
    robust_b: float
    difference: float  # b - a, in points
    low: float
    high: float
    only_a: int  # images that stand in a alone
    only_b: int
    p: float  # McNemar's

    def __str__(self) -> str:
        return (
            f"{self.a}: {self.robust_a:.1f}%  {self.b}: {self.robust_b:.1f}%  difference {self.difference:+.1f} "
            f"[{self.low:+.1f}, {self.high:+.1f}] points of {self.n} common images; stand in one alone: "
            f"{self.only_a} / {self.only_b}, McNemar p = {self.p:.3g}"
        )


def paired(a: str, b: str, stands_a: np.ndarray, stands_b: np.ndarray) -> Compared:
    """stands: (n,) bool, of the same images in the same order."""
    n = len(stands_a)
    if n == 0:
        raise BenchError(f"{a} and {b} have no image in common; they are of other data or another order")
    only_a, only_b = int((stands_a & ~stands_b).sum()), int((stands_b & ~stands_a).sum())
    more_a, more_b, total = only_a + 0.5, only_b + 0.5, n + 2
    middle = (more_b - more_a) / total
    spread = Z * sqrt(max(more_a + more_b - (more_b - more_a) ** 2 / total, 0.0)) / total
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    shares = 100 * float(stands_a.mean()), 100 * float(stands_b.mean())
    bounds = 100 * (middle - spread), 100 * (middle + spread)
    return Compared(a, b, n, *shares, shares[1] - shares[0], *bounds, only_a, only_b, p)


def cells(store: Place, a: str, b: str) -> Compared:
    """Of one store, by the beginnings of their keys. Raises BenchError."""
    return _of(_named(store, a), _named(store, b), store, store)


def stores(a: Place, b: Place) -> list[Compared]:
    """Every cell that both have, attacked ones alone. Raises BenchError where there is none."""
    shared = [
        key for key in keys(a) if key in set(keys(b)) and Cell(a, key).description()["config"]["threat"] is not None
    ]
    if not shared:
        raise BenchError(f"{a} and {b} have no attacked cell in common")
    return [_of(key, key, a, b) for key in shared]


def _of(a: str, b: str, store_a: Place, store_b: Place) -> Compared:
    both_cells = Cell(store_a, a), Cell(store_b, b)
    data = [cell.made().get("data") for cell in both_cells]
    if data[0] != data[1]:
        raise BenchError(
            f"{a} and {b} are of other data (sha256 {str(data[0])[:12]} and {str(data[1])[:12]}): no image is common"
        )
    frames = [_stands(cell) for cell in both_cells]
    both = frames[0].join(frames[1], how="inner", lsuffix="_a", rsuffix="_b")
    names = (a, b) if store_a == store_b else (f"{store_a.name}/{a}", f"{store_b.name}/{b}")
    return paired(*names, both["stands_a"].to_numpy(dtype=bool), both["stands_b"].to_numpy(dtype=bool))


def _stands(cell: Cell) -> pd.DataFrame:
    if cell.description().get("config", {}).get("threat") is None:
        raise BenchError(
            f"{cell.key} is a clean pass: no attack, so nothing stands or falls; name a cell with an attack"
        )
    frame = cell.frame(["sample", "clean", "fooled"]).set_index("sample")
    return pd.DataFrame({"stands": frame["clean"] & ~frame["fooled"]})


def _named(store: Place, beginning: str) -> str:
    found = [key for key in keys(store) if key.startswith(beginning)]
    if len(found) != 1:
        raise BenchError(
            f"{store} has {len(found)} cells whose key begins with {beginning!r}; write more of one (records --csv)"
        )
    return found[0]
