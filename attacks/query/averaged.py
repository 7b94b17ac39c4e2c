"""An attacker who averages: asks every image of any score attack `times` times and works with the mean logits.

Against a random defence a single answer is a lottery ticket: the attack stops at a lucky hit, or keeps a lucky minimum and then
rejects everything. With `acceptance_z` z a proposal replaces the incumbent only if its mean loss is lower by more than z standard
errors, and the incumbent is then asked again, so that the loss to beat is not the selected one (adaptive.md, UniG, 2-3).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks.base import QueryAttack
from attacks.losses import LOSSES, margin
from bench.core import rows
from bench.core.errors import BenchError


class State(NamedTuple):
    inner: Any  # the attack's own state
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    asked: Tensor  # (B,) answers so far on the image in hand
    logits: Tensor  # (B,K) their sum
    loss: Tensor  # (B,) sum of their losses
    square: Tensor  # (B,) sum of their squared losses
    again: Tensor  # (B,) bool: the image in hand is the incumbent
    error: Tensor  # (B,) variance of the incumbent's mean loss


@dataclass(frozen=True)
class Averaged:
    inner: QueryAttack[Any]
    times: int
    accept: float | None
    classes: int

    def __post_init__(self) -> None:
        name = type(self.inner).__name__.lower()
        if not isinstance(self.times, int) or self.times < 1:
            raise BenchError(f"queries_per_image={self.times} must be a whole number of at least 1")
        if self.inner.feedback != "logits":
            raise BenchError(
                f"queries_per_image={self.times} needs an attack that reads logits; {name} reads labels: set queries_per_image=1"
            )
        if self.accept is None:
            return
        if self.accept < 0 or self.times < 2:
            raise BenchError(
                f"acceptance_z={self.accept} counts standard errors, which take answers to estimate: it must be at least 0, "
                f"and queries_per_image={self.times} at least 2"
            )
        if not self.inner.keeps_incumbent:
            raise BenchError(
                f"acceptance_z={self.accept}: {name} keeps no incumbent that it could compare with; set acceptance_z=null"
            )

    @property
    def anytime(self) -> bool:
        return self.inner.anytime

    keeps_incumbent = False
    feedback = "logits"

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        none = x.new_zeros(len(x))
        inner, logits = self.inner.start(x, y, target, key), x.new_zeros(len(x), self.classes)
        return State(inner, y, target, torch.zeros_like(y), logits, none, none.clone(), y < 0, none.clone())

    def ask(self, s: State) -> Tensor:
        asked = self.inner.ask(s.inner)
        if self.accept is None:
            return asked
        return torch.where(s.again[:, None, None, None], s.inner.best, asked)

    def candidate(self, s: State, reply: Tensor) -> Tensor:
        """The last answer on an image, where the mean fools, too."""
        mean = (s.logits + reply) / self.times
        ready = (s.asked + 1 == self.times) & (margin(mean, s.y, s.target) < 0)
        return ready & (self.inner.candidate(s.inner, mean) | s.again)

    def tell(self, s: State, asked: Tensor, reply: Tensor) -> State:
        loss = self._loss(reply, s)
        told = s._replace(
            asked=s.asked + 1, logits=s.logits + reply, loss=s.loss + loss, square=s.square + loss.square()
        )
        ready = (told.asked == self.times).nonzero()[:, 0]
        return rows.put(told, ready, self._decide(rows.take(told, ready), asked[ready])) if len(ready) else told

    def _decide(self, s: State, asked: Tensor) -> State:
        """All answers on the image are there."""
        mean = s.logits / self.times
        empty = {name: torch.zeros_like(getattr(s, name)) for name in ("asked", "logits", "loss", "square")}
        if self.accept is None:
            return s._replace(inner=self.inner.tell(s.inner, asked, mean), **empty)
        spread = (s.square / self.times - (s.loss / self.times).square()).clamp_min(0) / (self.times - 1)
        bar = s.inner.loss - self.accept * (spread + s.error).sqrt()
        told = self.inner.tell(s.inner._replace(loss=bar), asked, mean)
        kept = told.loss == bar  # the attack rejected the proposal
        told = told._replace(loss=torch.where(kept, s.inner.loss, told.loss))
        tested = s.inner._replace(loss=self._loss(mean, s))  # the incumbent's loss, from fresh answers
        error = torch.where(s.again | ~kept, spread, s.error)
        return s._replace(inner=rows.where(s.again, tested, told), again=~s.again & ~kept, error=error, **empty)

    def _loss(self, logits: Tensor, s: State) -> Tensor:
        return LOSSES[getattr(self.inner, "loss", "margin")](logits, s.y, s.target)
