"""RayS, linf, from labels alone (Chen and Gu 2020, "RayS: A Ray Searching Method for Hard-label Adversarial Attack", alg. 3).

Searches the ray of signs along which the decision boundary is nearest: flips block after block of signs, asks first whether the
flipped ray fools at the best radius so far (one answer), and only then how near it does, by binary search. Nothing in it is
random. The radius is in the threat's own linf units; the paper's code measures the same ray by its l2 length.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks.query.blocks import blocks, numbers, period
from bench.core import rows
from bench.core.errors import BenchError
from bench.core.threat import Threat


class State(NamedTuple):
    x: Tensor  # (B,C,H,W) in [0, 1], the clean image
    y: Tensor  # (B,)
    signs: Tensor  # (B,C,H,W) of -1 and +1: the best ray
    radius: Tensor  # (B,) where it fools; 1 as long as nothing has
    flip: Tensor  # (B,) number of the block under trial
    searching: Tensor  # (B,) bool: binary search along the flipped ray
    low: Tensor  # (B,) it does not fool there
    high: Tensor  # (B,) it does


@dataclass(frozen=True)
class Rays:
    """tolerance: of the radius, on the [0, 1] pixel scale."""

    threat: Threat
    tolerance: float
    version: int = 1
    anytime = True
    feedback = "label"
    needs_start = True  # a row that no image fools is one that the attack never began on
    keeps_incumbent = False

    def __post_init__(self) -> None:
        if self.threat.norm != "linf":
            raise BenchError(f"rays has no threat.norm={self.threat.norm}; use linf, or attack=hopskipjump for l2")
        if self.threat.goal != "untargeted":
            raise BenchError(
                f"rays has no threat.goal={self.threat.goal}: its rays start without an image of the target"
            )
        if not 0 < self.tolerance < 1:
            raise BenchError(f"attack.tolerance={self.tolerance} must lie in (0, 1)")

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        one, zero = x.new_ones(len(x)), torch.zeros_like(y)
        return State(x, y, torch.ones_like(x), one, zero, zero > 0, torch.zeros_like(one), one.clone())

    def query(self, s: State) -> Tensor:
        radius = torch.where(s.searching, (s.low + s.high) / 2, s.radius)
        return torch.addcmul(s.x, radius.view(-1, 1, 1, 1), self._flipped(s)).clamp_(0, 1)

    def candidate(self, s: State, output: Tensor) -> Tensor:
        return torch.ones_like(s.flip, dtype=torch.bool)

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        fools, middle = output != s.y, (s.low + s.high) / 2
        low = torch.where(s.searching, torch.where(fools, s.low, middle), 0.0)
        high = torch.where(s.searching, torch.where(fools, middle, s.high), s.radius)
        done = s.searching & (high - low <= self.tolerance)
        open_ = s.searching | fools
        return rows.update(s, done, lambda part: {"signs": self._flipped(part)})._replace(
            radius=torch.where(done, high, s.radius),
            flip=s.flip + (done | ~open_),
            searching=open_ > done,
            low=low,
            high=high,
        )

    def ahead(self, s: State) -> State:
        """The image does not fool."""
        return self.observe(s, s.x, s.y)

    def otherwise(self, s: State, queried: Tensor) -> State:
        """It does, and more is asked: it lies outside the ball."""
        return self.observe(s, queried, s.y + 1)

    def _flipped(self, s: Any) -> Tensor:
        """(B,C,H,W): the signs of a State, or of some of its rows, with the block under trial turned."""
        signs = s.signs
        d = signs[0].numel()
        table = _table(d, min(period(d), self.threat.queries), signs.device)
        start, end = table[s.flip % len(table)].unbind(1)
        index = numbers(d, signs.device)
        inside = ((index >= start[:, None]) & (index < end[:, None])).view_as(signs)
        return torch.where(inside, -signs, signs)


@cache
def _table(d: int, n: int, device: torch.device) -> Tensor:
    return blocks(d, n).to(device)
