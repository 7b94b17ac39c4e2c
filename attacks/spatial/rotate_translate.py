"""Rotations and translations from a grid (Engstrom et al. 2019, section 3): 31 angles up to 30 degrees, 5 x 5 shifts up to 3
pixels for MNIST and CIFAR. Each row asks them in a random order of its own, each once; with a smaller budget that is the paper's
worst-of-k. Beyond the image its edge goes on (theirs: black), so what leaves the frame is not cut out.
"""

from dataclasses import dataclass
from functools import cache
from math import cos, radians, sin
from typing import NamedTuple

import torch
from torch import Tensor

from attacks import norms
from bench.core.errors import BenchError
from bench.core.rng import bits
from bench.core.threat import Threat
from bench.core.warp import warp


class State(NamedTuple):
    t: Tensor  # (B,)
    x: Tensor  # (B,C,H,W) in [0, 1]
    order: Tensor  # (B,n) a permutation of the transforms


@dataclass(frozen=True)
class RotateTranslate:
    """degrees, pixels: the largest rotation and shift to either side; angles, shifts: how many of each, evenly spaced."""

    threat: Threat
    degrees: float
    angles: int
    pixels: float
    shifts: int
    version: int = 1
    anytime = True
    keeps_incumbent = False
    feedback = "label"

    def __post_init__(self) -> None:
        norms.check("rotation-translation", self.threat.norm, ("none",))
        if self.angles < 1 or self.shifts < 1 or self.degrees < 0 or self.pixels < 0:
            raise BenchError(
                f"attack.angles={self.angles} and attack.shifts={self.shifts} are at least 1, attack.degrees={self.degrees} "
                f"and attack.pixels={self.pixels} at least 0"
            )
        if self.threat.queries > self.size:
            raise BenchError(
                f"attack.angles={self.angles} and attack.shifts={self.shifts} make {self.size} transforms, each queried once; "
                f"set threat.queries={self.size} or less, not {self.threat.queries}"
            )

    @property
    def size(self) -> int:
        return self.angles * self.shifts**2

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        if self.pixels >= min(x.shape[2:]):
            raise BenchError(f"attack.pixels={self.pixels} shifts the image out of its {min(x.shape[2:])} pixels")
        return State(torch.zeros_like(y), x, bits(key, self.size).argsort(dim=1, stable=True))

    def query(self, s: State) -> Tensor:
        place = s.t.clamp(max=self.size - 1)  # a row that has ended may still fill a network call
        return warp(s.x, self.flow(s.order.gather(1, place[:, None])[:, 0], s.x))

    def candidate(self, s: State, output: Tensor) -> Tensor:
        return torch.ones_like(s.t, dtype=torch.bool)

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        return s._replace(t=s.t + 1)

    def flow(self, nth: Tensor, x: Tensor) -> Tensor:
        """(B,H,W,2) of the transforms nth (B,): around the centre by the angle, then by the shift."""
        angles, shifts = _spaced(self.angles, self.degrees), _spaced(self.shifts, self.pixels)

        def at(values: list[float], place: Tensor) -> Tensor:  # looked up: a vector's cosine may depend on its length
            return _table(tuple(values), x.dtype, x.device)[place][:, None, None]

        turn, right, down = nth // self.shifts**2, nth // self.shifts % self.shifts, nth % self.shifts
        shrink, lift = (
            at([cos(radians(each)) - 1 for each in angles], turn),
            at([sin(radians(each)) for each in angles], turn),
        )
        height, width = x.shape[2:]
        a = (torch.arange(width, device=x.device) - (width - 1) / 2).to(x.dtype)[None, None, :]
        b = (torch.arange(height, device=x.device) - (height - 1) / 2).to(x.dtype)[None, :, None]
        across = shrink * a - lift * b + at(shifts, right)
        return torch.stack([across, lift * a + shrink * b + at(shifts, down)], dim=-1)


@cache
def _table(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Moved once: a copy to the device every tick would stall it."""
    return torch.tensor(values, dtype=dtype, device=device)


def _spaced(n: int, most: float) -> list[float]:
    """n numbers from -most to most; 0 if there is one."""
    return [most * (2 * i / (n - 1) - 1) for i in range(n)] if n > 1 else [0.0]
