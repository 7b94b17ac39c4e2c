"""Blocks of an image, by halving: the schedule of flips that SignHunter and RayS share.

Level h cuts the d pixels into chunks of ceil(d / 2^h); levels run from 0 (all of it) to ceil(log2 d) (single pixels), then anew.
"""

from functools import cache
from math import ceil

import torch
from torch import Tensor


def blocks(d: int, n: int) -> Tensor:
    """(n, 2) int64: [start, end) of the first n flips."""
    found: list[tuple[int, int]] = []
    while len(found) < n:
        for level in range(_levels(d)):
            chunk = ceil(d / 2**level)
            missing = n - len(found)
            found += [(start, min(start + chunk, d)) for start in range(0, min(d, missing * chunk), chunk)]
    return torch.tensor(found[:n], dtype=torch.int64)


@cache
def numbers(d: int, device: torch.device) -> Tensor:
    """(d,) 0, 1, …: made and moved once."""
    return torch.arange(d).to(device)


def period(d: int) -> int:
    """Flips of one full pass."""
    return sum(ceil(d / ceil(d / 2**level)) for level in range(_levels(d)))


def _levels(d: int) -> int:
    return (d - 1).bit_length() + 1
