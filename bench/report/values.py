"""A number of a table with its n and its 95% interval: the only means over samples. Imports no torch."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

Z = 1.959964  # 95%
NAN = float("nan")


@dataclass(frozen=True)
class Value:
    value: float
    n: int
    low: float
    high: float
    shown: str = ""  # instead of the number, where that alone says too little


def share(hits: int, n: int) -> Value:
    """Percent with Wilson's interval."""
    if n == 0:
        return Value(NAN, 0, NAN, NAN)
    p, z2 = hits / n, Z * Z
    middle, spread = p + z2 / (2 * n), Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (middle - spread) / (1 + z2 / n), (middle + spread) / (1 + z2 / n)
    return Value(100 * p, n, 100 * max(low, 0.0), 100 * min(high, 1.0))


def share_of(column: Any) -> Value:
    """Of a boolean column, how many are true."""
    return share(int(np.count_nonzero(column)), len(column))


def mean(values: np.ndarray) -> Value:
    """Mean with the normal interval; no interval for fewer than 2 values."""
    n = len(values)
    if n == 0:
        return Value(NAN, 0, NAN, NAN)
    half = Z * float(values.std(ddof=1)) / sqrt(n) if n > 1 else NAN
    return Value(float(values.mean()), n, float(values.mean()) - half, float(values.mean()) + half)


def median(values: np.ndarray) -> Value:
    """Median with the binomial (order statistic) interval."""
    n, ordered = len(values), np.sort(values)
    if n < 6:  # of so few, not even the least and the greatest hold it with 95%
        return Value(float(np.median(ordered)) if n else NAN, n, NAN, NAN)
    half = Z * sqrt(n) / 2
    low, high = max(int(np.floor(n / 2 - half)), 0), min(int(np.ceil(n / 2 + half)), n - 1)
    return Value(float(np.median(ordered)), n, float(ordered[low]), float(ordered[high]))
