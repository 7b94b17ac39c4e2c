"""Square against a defence that refuses queries which resemble earlier ones: adapt the proposals and resample (OARS, Feng, Hooda,
Mangaokar, Fawaz, Jha and Prakash 2023, "Stateful Defenses for Machine Learning Models Are Not Yet Secure Against Black-box
Attacks", section 4), linf.

A refusal says that the proposal was too near to something asked before: the next is drawn anew and changes more of the image;
where an answer comes, the next changes less again. Difference: it is the number of Square's windows that grows, not their side:
a large window has few places on a small image and so repeats itself.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from attacks import norms
from attacks.losses import LOSSES
from attacks.query.square import Square, _on, _sides
from bench.core import success
from bench.core.errors import BenchError
from bench.core.rng import bits, integers, onward
from bench.core.rows import column


class State(NamedTuple):
    key: Tensor  # (B,)
    t: Tensor  # (B,) queries observed so far
    x: Tensor  # (B,C,H,W) in [0, 1], the clean image
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    best: Tensor  # (B,C,H,W) in [0, 1], best image so far
    loss: Tensor  # (B,) of best
    share: Tensor  # (B,) of the windows, which the next proposal changes


@dataclass(frozen=True)
class Oars(Square):
    """grow, shrink: factors of the share of windows that a proposal changes, after a refusal and after an answer. Windows lie
    beside each other, their lattice at a random place; their side is Square's schedule's."""

    grow: float = 2.0
    shrink: float = 0.8
    reads_refusals = True
    keeps_incumbent = False  # an averaging attacker's repeated queries would all be refused

    def __post_init__(self) -> None:
        super().__post_init__()
        norms.check("oars", self.threat.norm, ("linf",))
        if self.grow <= 1 or not 0 < self.shrink <= 1:
            raise BenchError(f"attack.grow={self.grow} must exceed 1, attack.shrink={self.shrink} lie in (0, 1]")

    def start(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Tensor, y: Tensor, target: Tensor, key: Tensor
    ) -> State:
        return State(*super().start(x, y, target, key), share=x.new_zeros(len(x)))

    def query(self, s: State) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        channels, height, width = s.x.shape[1:]
        side = _on(s.x.device, _sides, self.p_init, height, width, 1, False)[self._stage(s.t)]
        word = bits(onward(s.key, s.t), 3)
        row, down = _tiles(word[:, 0], side, height)
        col, right = _tiles(word[:, 1], side, width)
        tile = row[:, :, None] * (width + 1) + col[:, None, :]  # (B,H,W) the window that a pixel lies in
        drawn = bits(onward(s.key, s.t, torch.ones_like(s.t)), (height + 1) * (width + 1))
        always = (integers(word[:, 2], down * right) // right) * (width + 1) + integers(
            word[:, 2], down * right
        ) % right
        chance = ((drawn >> 40) & 0xFFFFFF).float() * 2.0**-24
        chosen = (chance < s.share[:, None]).scatter(1, always[:, None], True)
        mine = drawn.gather(1, tile.flatten(1)).view_as(tile)
        sign = torch.stack([((mine >> channel) & 1).float() * 2 - 1 for channel in range(channels)], 1)
        changed = (
            chosen.gather(1, tile.flatten(1)).view_as(tile) & (s.t > 0)[:, None, None]
        )  # the first is `best` as it stands
        return torch.where(changed[:, None], s.x + self.threat.radius * sign, s.best).clamp(0, 1)

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:  # pyright: ignore[reportIncompatibleMethodOverride]
        answered, loss = success.defined(output), LOSSES[self.loss](output, s.y, s.target)
        better = answered & (loss < s.loss)
        return self._adapted(s, answered)._replace(
            best=torch.where(column(better), queried, s.best), loss=torch.where(better, loss, s.loss)
        )

    def ahead(self, s: State) -> State:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The query is answered, and the proposal rejected."""
        return self._adapted(s, torch.ones_like(s.t, dtype=torch.bool))

    def otherwise(self, s: State, queried: Tensor) -> State:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.ahead(s)._replace(best=queried)

    def _adapted(self, s: State, answered: Tensor) -> State:
        least = 1 / s.x[0, 0].numel()
        share = s.share.clamp_min(least) * torch.where(answered, self.shrink, self.grow)
        return s._replace(t=s.t + 1, share=share.clamp(least, 1))


def _tiles(word: Tensor, side: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """One axis of a lattice of windows: (B, length) the number of each pixel's, and (B,) how many there are."""
    offset = integers(word, side)
    place = (torch.arange(length, device=word.device) + offset[:, None]) // side[:, None]
    return place, place[:, -1] + 1
