"""Square Attack, linf and l2 (Andriushchenko et al. 2020, algorithms 1-3). One window a row and query.

Differences: windows may touch the last row and column (the paper's text; its code stops one short), and `horizon` states the
budget that the schedule of p is scaled to, so that one run can serve every smaller budget.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import sqrt
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from attacks import norms
from attacks.losses import LOSSES
from bench.core.errors import BenchError, nearest
from bench.core.rng import bits, integers, mix, onward, signs
from bench.core.rows import column
from bench.core.threat import Threat

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: p is halved after each (section 3)


class State(NamedTuple):
    key: Tensor  # (B,) the row's own, mixed once
    t: Tensor  # (B,) answers seen so far
    x: Tensor  # (B,C,H,W) in [0, 1], the clean image
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    best: Tensor  # (B,C,H,W) in [0, 1], best image so far
    loss: Tensor  # (B,) of best


@dataclass(frozen=True)
class Square:
    """p_init: the share of pixels in the first windows; horizon: null = the threat's budget, as in the paper."""

    threat: Threat
    p_init: float
    loss: Literal["margin", "cross_entropy"]
    horizon: int | None
    version: int = 1
    feedback = "logits"
    keeps_incumbent = True

    def __post_init__(self) -> None:
        norms.check("square", self.threat.norm, ("linf", "l2"))
        if not 0 < self.p_init <= 1:
            raise BenchError(f"attack.p_init={self.p_init} is a share of the pixels: it must lie in (0, 1]")
        if self.loss not in LOSSES:
            raise BenchError(f"attack.loss={self.loss} is unknown{nearest(self.loss, LOSSES)}")
        if self.horizon is not None and self.horizon < self.threat.queries:
            raise BenchError(
                f"attack.horizon={self.horizon} must reach the budget threat.queries={self.threat.queries}"
            )

    @property
    def anytime(self) -> bool:
        return self.horizon is not None

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        begin = _stripes if self.threat.norm == "linf" else _blobs
        first = begin(x, key, self.threat.radius)  # the first query; its loss is below infinity, so it becomes `best`
        return State(mix(key), torch.zeros_like(y), x, y, target, first, torch.full_like(y, torch.inf, dtype=x.dtype))

    def query(self, s: State) -> Tensor:
        word = bits(onward(s.key, s.t), 6)
        return self._linf(s, word) if self.threat.norm == "linf" else self._l2(s, word)

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
        best = torch.where(column(accepted), queried, s.best)
        return s._replace(t=s.t + 1, best=best, loss=torch.where(accepted, loss, s.loss))

    def ahead(self, s: State) -> State:
        """Most proposals are rejected."""
        return s._replace(t=s.t + 1)

    def otherwise(self, s: State, queried: Tensor) -> State:
        """The proposal is accepted; its loss decides of later outputs, and of no query."""
        return s._replace(t=s.t + 1, best=queried)

    def _linf(self, s: State, word: Tensor) -> Tensor:
        """Algorithm 2: the window's pixels go to x +- eps, one sign a channel."""
        channels, height, width = s.x.shape[1:]
        limits = (self.horizon or self.threat.queries, self.threat.queries)
        window = _on(s.x.device, _windows, self.p_init, height, width, *limits)[s.t.clamp_max(limits[1])]
        corner = integers(word[:, :2], window[:, 1:])
        offset = _on(s.x.device, torch.arange, max(height, width)) - corner[:, :, None]
        rows, columns = ((offset >= 0) & (offset < window[:, :1, None])).unbind(1)
        inside = rows[:, :height, None] & columns[:, None, :width]
        shift = signs(word[:, 2], channels) * self.threat.radius
        return torch.where(inside[:, None], s.x + shift[:, :, None, None], s.best).clamp_(0, 1)

    def _l2(self, s: State, word: Tensor) -> Tensor:
        """Algorithm 3: the second window's mass, and what of eps is unused, move into the first as a blob of eta."""
        channels, height, width = s.x.shape[1:]
        stage = self._stage(s.t)
        side = _on(s.x.device, _sides, self.p_init, height, width, 3, True)[stage]
        first = _window(word[:, 0], side, height)[:, :, None] & _window(word[:, 1], side, width)[:, None, :]
        second = _window(word[:, 2], side, height)[:, :, None] & _window(word[:, 3], side, width)[:, None, :]
        delta, first, second = s.best - s.x, first[:, None], second[:, None]
        unused = (self.threat.radius**2 - _energy(delta, (1, 2, 3))).clamp_min(0) / channels
        budget = (_energy(delta * (first | second), (2, 3)) + unused).sqrt()
        table = _on(s.x.device, _etas, self.p_init, height, width)
        turned = integers(word[:, 4], 2)
        blob = _place(
            table,
            stage + len(table) // 2 * turned,
            *(_corner(word[:, i], side, n) for i, n in ((0, height), (1, width))),
        )
        old = delta * first
        mass = blob[:, None] * signs(word[:, 5], channels)[:, :, None, None]
        mass = mass + old / _energy(old, (2, 3)).sqrt().clamp_min(1e-12)
        mass = mass * (budget / _energy(mass, (2, 3)).sqrt().clamp_min(1e-12))
        queried = _on_sphere(s.x, torch.where(first, mass, torch.where(second, 0.0, delta)), self.threat.radius)
        return torch.where((s.t > 0)[:, None, None, None], queried, s.best)

    def _stage(self, t: Tensor) -> Tensor:
        """(B,) how often p has been halved by proposal t-1, on the schedule stretched to the horizon."""
        return _stages(t, self.horizon or self.threat.queries, _on(t.device, _halvings))


@cache
def _on(device: torch.device, make: Callable[..., Tensor], *args: object) -> Tensor:
    """A small table, made and moved once: a copy to the device every tick would stall it."""
    return make(*args).to(device)


def _halvings() -> Tensor:
    return torch.tensor(HALVINGS)


def _stages(t: Tensor, horizon: int, halvings: Tensor) -> Tensor:
    return ((t - 1).clamp_min(0)[:, None] * 10_000 // horizon > halvings).sum(1)


def _windows(p_init: float, height: int, width: int, horizon: int, queries: int) -> Tensor:
    """(queries + 1, 3): at each query the window's side, and how many rows and columns it can begin at. The first query is the
    stripes as they stand."""
    stage = _stages(torch.arange(queries + 1), horizon, _halvings())
    side = _sides(p_init, height, width, 1, False)[stage]
    side[0] = 0
    return torch.stack([side, height - side + 1, width - side + 1], 1)


def _sides(p_init: float, height: int, width: int, least: int, odd: bool) -> Tensor:
    """(10,) side of the window in each stage of the schedule."""
    return torch.tensor(_side_lengths(p_init, height, width, least, odd))


def _side_lengths(p_init: float, height: int, width: int, least: int, odd: bool) -> list[int]:
    sides = [max(round(sqrt(p_init / 2**k * height * width)), least) for k in range(len(HALVINGS) + 1)]
    return [min(side + (1 - side % 2 if odd else 0), height, width) for side in sides]


def _energy(delta: Tensor, axes: tuple[int, ...]) -> Tensor:
    return delta.square().sum(axes, keepdim=True)


def _corner(word: Tensor, side: Tensor, length: int) -> Tensor:
    return integers(word, length - side + 1)


def _window(word: Tensor, side: Tensor, length: int) -> Tensor:
    """(B, length) bool: one axis of the window."""
    offset = torch.arange(length, device=word.device) - _corner(word, side, length)[:, None]
    return (offset >= 0) & (offset < side[:, None])


def _stripes(x: Tensor, key: Tensor, eps: float) -> Tensor:
    """linf initialisation: vertical stripes one pixel wide, each channel its own signs."""
    channels, _, width = x.shape[1:]
    sign = integers(bits(mix(key), channels * width), 2).view(-1, channels, 1, width) * 2 - 1
    return (x + eps * sign).clamp_(0, 1)


def _blobs(x: Tensor, key: Tensor, eps: float) -> Tensor:
    """l2 initialisation: a 5 x 5 grid of blobs, random signs a channel, each blob upright or turned."""
    channels, height, width = x.shape[1:]
    tile = max(min(height, width) // 5, 1)
    blob = _eta(tile).to(x.device)
    word = bits(mix(key), 25 * (channels + 1)).view(-1, 25, channels + 1)
    sign = integers(word[:, :, 1:], 2) * 2 - 1
    turned = torch.where((integers(word[:, :, 0], 2) == 1)[:, :, None, None], blob.T, blob)
    tiles = (turned[:, :, None] * sign[..., None, None]).view(-1, 5, 5, channels, tile, tile)
    grid = tiles.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, 5 * tile, 5 * tile)
    delta = torch.zeros_like(x)
    top, left, side = max(height - 5 * tile, 0) // 2, max(width - 5 * tile, 0) // 2, min(5 * tile, height, width)
    delta[:, :, top : top + side, left : left + side] = grid[:, :, :side, :side]
    return _on_sphere(x, delta, eps)


def _on_sphere(x: Tensor, delta: Tensor, eps: float) -> Tensor:
    length = delta.square().sum((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)
    return (x + delta * (eps / length)).clamp_(0, 1)


def _etas(p_init: float, height: int, width: int) -> Tensor:
    """(20, height, width): each stage's blob in the upper left corner of a black image, upright, then all turned."""
    table = torch.zeros(2, len(HALVINGS) + 1, height, width)
    for stage, side in enumerate(_side_lengths(p_init, height, width, 3, True)):
        table[0, stage, :side, :side] = _eta(side)
        table[1, stage, :side, :side] = _eta(side).T
    return table.flatten(0, 1)


def _eta(side: int) -> Tensor:
    """(side, side): two pyramids of opposite sign, one above the other, unit l2 norm (equation 2)."""
    upper = side // 2
    blob = torch.cat([_pyramid(upper, side), -_pyramid(side - upper, side)])
    return blob / blob.norm()


def _pyramid(height: int, width: int) -> Tensor:
    """Rings around the centre: a pixel at Chebyshev distance d has the sum of 1/(k+1)^2 for k = d..n."""
    row = (torch.arange(height) - height // 2).abs()
    col = (torch.arange(width) - width // 2).abs()
    ring = torch.maximum(row[:, None], col[None, :])
    n = max(height, width) // 2
    terms = torch.tensor([1 / (k + 1) ** 2 for k in range(n + 1)], dtype=torch.float64)
    return terms.flip(0).cumsum(0).flip(0)[ring].float()


def _place(table: Tensor, stage: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """table (S,H,W) of blobs in the upper left corner -> (B,H,W): the blob of `stage` (B,) moved to its window."""
    height, width = table.shape[1:]
    row = torch.arange(height, device=table.device) - top[:, None]
    col = torch.arange(width, device=table.device) - left[:, None]
    index = (row % height)[:, :, None] * width + (col % width)[:, None, :]  # wraps into the padding, which is zero
    return table.flatten(1)[stage].gather(1, index.flatten(1)).view(-1, height, width)
