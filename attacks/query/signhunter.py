"""SignHunter, linf and l2 (Al-Dujaili and O'Reilly 2020, "Sign Bits Are All You Need for Black-Box Attacks", algorithms 1-2).

Guesses the gradient's sign vector by halving: a block of signs is flipped and kept if the loss falls. One answer a flip. When
all blocks have been tried, the search starts anew around the image that it has reached.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks import norms
from attacks.losses import LOSSES
from attacks.query.blocks import blocks, numbers, period
from bench.core import rows
from bench.core.errors import BenchError, nearest
from bench.core.rows import column
from bench.core.threat import Threat


class State(NamedTuple):
    t: Tensor  # (B,) answers seen so far
    x: Tensor  # (B,C,H,W) in [0, 1], the clean image
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    pivot: Tensor  # (B,C,H,W) in [0, 1], what the signs are added to
    signs: Tensor  # (B,C,H,W) of -1 and +1
    best: Tensor  # (B,C,H,W) in [0, 1]: pivot + signs
    loss: Tensor  # (B,) of best


@dataclass(frozen=True)
class SignHunter:
    threat: Threat
    loss: Literal["margin", "cross_entropy"]
    version: int = 1
    anytime = True
    feedback = "logits"
    keeps_incumbent = True

    def __post_init__(self) -> None:
        norms.check("signhunter", self.threat.norm, ("linf", "l2"))
        if self.loss not in LOSSES:
            raise BenchError(f"attack.loss={self.loss} is unknown{nearest(self.loss, LOSSES)}")

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        infinite = torch.full_like(y, torch.inf, dtype=x.dtype)
        return State(torch.zeros_like(y), x, y, target, x.clone(), torch.ones_like(x), x.clone(), infinite)

    def query(self, s: State) -> Tensor:
        d = s.x[0].numel()
        size = self.threat.radius if self.threat.norm == "linf" else self.threat.radius / d**0.5
        return norms.project(s.x, s.pivot + size * self._flipped(s), self.threat.norm, self.threat.radius)

    def candidate(self, s: State, output: Tensor) -> Tensor:
        return torch.ones_like(s.t, dtype=torch.bool)

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        loss = LOSSES[self.loss](output, s.y, s.target)
        return self._settled(s, queried, loss, (loss < s.loss) | self._begins(s))

    def accept(self, s: State, output: Tensor, bar: Tensor) -> Tensor:
        """Each search begins with all signs up, whatever their loss."""
        return (LOSSES[self.loss](output, s.y, s.target) < bar) | self._begins(s)

    def settle(self, s: State, queried: Tensor, output: Tensor, accepted: Tensor) -> State:
        return self._settled(s, queried, LOSSES[self.loss](output, s.y, s.target), accepted)

    def _settled(self, s: State, queried: Tensor, loss: Tensor, accepted: Tensor) -> State:
        def kept(part: Any) -> dict[str, Tensor]:
            return {"signs": self._flipped(part), "best": part.of(queried), "loss": part.of(loss)}

        return self._next(rows.update(s, accepted, kept))

    def ahead(self, s: State) -> State:
        """Most flips are rejected; the first query of a search never is."""
        first = column(self._begins(s))
        return self._next(s._replace(signs=torch.where(first, 1.0, s.signs)))

    def otherwise(self, s: State, queried: Tensor) -> State:
        """The flip is kept."""
        return self._next(s._replace(signs=self._flipped(s), best=queried))

    def _next(self, s: State) -> State:
        """A search that is over starts anew around what it has reached."""
        over = (s.t + 1) % self._length(s) == 0
        return rows.update(s, over, lambda part: {"pivot": part.best.clone()})._replace(t=s.t + 1)

    def _begins(self, s: State) -> Tensor:
        """(B,) bool: is this a search's first query?"""
        return s.t % self._length(s) == 0

    def _length(self, s: State) -> int:
        """Queries of one search."""
        return 1 + period(s.x[0].numel())

    def _flipped(self, s: Any) -> Tensor:
        """(B,C,H,W): the signs of a State, or of some of its rows, with the block of this query turned; a search's first query is
        all +1."""
        signs, t = s.signs, s.t
        d = signs[0].numel()
        place = t % (1 + period(d))
        table = _table(d, min(period(d), self.threat.queries), t.device)
        start, end = table[place.clamp_max(len(table) - 1)].unbind(1)  # a row past its budget only fills a call
        index = numbers(d, t.device)
        inside = ((index >= start[:, None]) & (index < end[:, None])).view_as(signs)
        turned = torch.where(inside, -signs, signs)
        if rows.on_host(place) and place.all():  # most ticks
            return turned
        return torch.where(column(place > 0), turned, 1.0)


@cache
def _table(d: int, n: int, device: torch.device) -> Tensor:
    """(1 + n, 2): a search's first query flips nothing."""
    return F.pad(blocks(d, n), (0, 0, 1, 0)).to(device)
