"""SimBA, in the pixel and the DCT basis (Guo et al. 2019, "Simple Black-box Adversarial Attacks", algorithm 1).

One coordinate after the other, each tried downwards, then upwards; a try that lowers the true class's probability is kept.
Differences: the perturbation is clamped to the ball (as in the UniG paper's code); every row has an order of its own; the
probability of the incumbent is not queried again, so an iteration costs one or two answers (that code spends three).
"""

from dataclasses import dataclass
from functools import cache
from math import pi
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attacks import norms
from attacks.losses import LOSSES
from bench.core import rows
from bench.core.errors import BenchError
from bench.core.rng import bits
from bench.core.rows import column
from bench.core.threat import Threat


class State(NamedTuple):
    t: Tensor  # (B,) answers seen so far
    x: Tensor  # (B,C,H,W) in [0, 1], the clean image
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    order: Tensor  # (B, n) the row's coordinates in its order
    i: Tensor  # (B,) iteration: its coordinate is order[i mod n]
    up: Tensor  # (B,) bool: the second try of an iteration
    delta: Tensor  # (B,C,H,W) sum of the kept steps, before it is clamped
    best: Tensor  # (B,C,H,W) in [0, 1]
    loss: Tensor  # (B,) of best


@dataclass(frozen=True)
class Simba:
    """step: along one basis vector of unit length; freq_dims: lowest frequencies used (dct), null = all;
    order: random, or strided: the lowest block first, then shells of `stride` more frequencies; iterations: coordinates tried at
    most, which is how the UniG paper's code counts its budget; null = as many as the queries pay for.
    """

    threat: Threat
    basis: Literal["pixel", "dct"]
    step: float
    freq_dims: int | None
    order: Literal["random", "strided"]
    stride: int
    version: int = 1
    iterations: int | None = None
    anytime = True
    feedback = "logits"
    keeps_incumbent = True
    loss = "cross_entropy"

    def __post_init__(self) -> None:
        norms.check("simba", self.threat.norm, ("linf", "l2"))
        for name, value, known in (
            ("basis", self.basis, ("pixel", "dct")),
            ("order", self.order, ("random", "strided")),
        ):
            if value not in known:
                raise BenchError(f"attack.{name}={value}: it is one of {', '.join(known)}")
        if self.iterations is not None and self.iterations < 1:
            raise BenchError(f"attack.iterations={self.iterations} must be at least 1, or null")
        if self.step <= 0 or self.stride < 1:
            raise BenchError(f"attack.step={self.step}, attack.stride={self.stride}: both must be positive")
        if self.basis == "pixel" and (self.freq_dims is not None or self.order != "random"):
            raise BenchError("attack.basis=pixel has no frequencies: set attack.freq_dims=null attack.order=random")
        if self.threat.queries < 2:
            raise BenchError(
                f"simba needs at least 2 answers, threat.queries={self.threat.queries}: the image, one step"
            )

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        channels, height, width = x.shape[1:]
        size = self.freq_dims
        if size is not None and not 0 < size <= min(height, width):
            raise BenchError(
                f"attack.freq_dims={size} does not fit images of {height}x{width}; set it to at most {min(height, width)}"
            )
        coordinates = _coordinates(channels, height, width, size, self.order, self.stride, x.device)
        rank = (bits(key, len(coordinates)) >> 24) & ((1 << 40) - 1)
        shell = coordinates[:, 1] << 40  # shells in turn, at random within each
        index = (rank + shell).argsort(1)[:, : self.threat.queries]
        order = coordinates[:, 0][index]
        zero = torch.zeros_like(y)
        infinite = torch.full_like(y, torch.inf, dtype=x.dtype)
        return State(zero, x, y, target, order, zero.clone(), zero > 0, torch.zeros_like(x), x.clone(), infinite)

    def query(self, s: State) -> Tensor:
        queried = norms.project(s.x, s.x + s.delta + self._step(s), self.threat.norm, self.threat.radius)
        return torch.where((s.t > 0)[:, None, None, None], queried, s.x)  # the first query is the image itself

    def candidate(self, s: State, output: Tensor) -> Tensor:
        return torch.ones_like(s.t, dtype=torch.bool)

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        loss = LOSSES[self.loss](output, s.y, s.target)
        return self._settled(s, queried, loss, loss < s.loss)

    def accept(self, s: State, output: Tensor, bar: Tensor) -> Tensor:
        return LOSSES[self.loss](output, s.y, s.target) < bar

    def settle(self, s: State, queried: Tensor, output: Tensor, accepted: Tensor) -> State:
        return self._settled(s, queried, LOSSES[self.loss](output, s.y, s.target), accepted)

    def _settled(self, s: State, queried: Tensor, loss: Tensor, accepted: Tensor) -> State:
        def kept(part: Any) -> dict[str, Tensor]:
            return {"delta": part.delta + self._step(part), "best": part.of(queried)}

        new = rows.update(s, accepted & (s.t > 0), kept)
        return self._next(new, accepted)._replace(loss=torch.where(accepted, loss, s.loss))

    def ended(self, s: State) -> Tensor:
        return torch.zeros_like(s.up) if self.iterations is None else s.i >= self.iterations

    def ahead(self, s: State) -> State:
        """The step is rejected: the same coordinate upwards, or the next one."""
        return self._next(s, torch.zeros_like(s.up))

    def otherwise(self, s: State, queried: Tensor) -> State:
        """The step is kept; the first query is the image itself."""
        kept = column(s.t > 0)
        delta = torch.where(kept, s.delta + self._step(s), s.delta)
        return self._next(s, torch.ones_like(s.up))._replace(delta=delta, best=torch.where(kept, queried, s.best))

    def _next(self, s: State, accepted: Tensor) -> State:
        """What is tried next: a coordinate is done when a step along it was accepted, or both were rejected."""
        done, first = accepted | s.up, s.t == 0
        return s._replace(t=s.t + 1, i=s.i + (done & ~first), up=~done & ~first)

    def _step(self, s: Any) -> Tensor:
        """(B,C,H,W): the step under trial; a basis image is the outer product of two rows of a matrix, on one channel."""
        order, i = s.order, s.i
        channels, height, width = s.delta.shape[1:]
        place = order.gather(1, (i % order.shape[1])[:, None])[:, 0]
        channel, row, column = _places(channels, height, width, place.device)[place].unbind(1)
        tall, wide = (_basis(self.basis, n, place.device) for n in (height, width))
        size = torch.where(s.up, self.step, -self.step)
        scale = size[:, None] * _numbers(channels, place.device).eq(channel[:, None])
        return scale[:, :, None, None] * (tall[row][:, :, None] * wide[column][:, None, :])[:, None]


@cache
def _basis(kind: str, n: int, device: torch.device) -> Tensor:
    """(n, n): its rows are the basis; the orthonormal DCT-II, or single pixels."""
    if kind == "pixel":
        return torch.eye(n, device=device)
    frequency, place = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    rows = torch.cos(pi * frequency * (2 * place + 1) / (2 * n)) * (2 / n) ** 0.5
    rows[0] /= 2**0.5
    return rows.float().to(device)


@cache
def _places(channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """(C*H*W, 3) channel, row and column of each number of a flat image."""
    flat = torch.arange(channels * height * width)
    return torch.stack([flat // (height * width), flat // width % height, flat % width], 1).to(device)


@cache
def _numbers(n: int, device: torch.device) -> Tensor:
    return torch.arange(n).to(device)


@cache
def _coordinates(
    channels: int, height: int, width: int, size: int | None, order: str, stride: int, device: torch.device
) -> Tensor:
    """(n, 2) int64: each coordinate's index in the flat image, and the shell that it belongs to."""
    flat = np.arange(channels * height * width)
    highest = np.maximum(flat // width % height, flat % width)
    size = size or max(height, width)
    shell = np.maximum(np.maximum(highest - size, -1) // stride + 1, 0)
    every = np.stack([flat, shell], 1)
    chosen = every if order == "strided" else every[highest < size] * [1, 0]
    return torch.tensor(chosen.tolist(), device=device)
