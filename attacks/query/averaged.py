"""An attacker who averages: asks every image of any score attack `times` times and works with the mean logits.

Against a random defence a single answer is a lottery ticket: the attack stops at a lucky hit, or keeps a lucky minimum and then
rejects everything. With `acceptance_z` z a proposal replaces the incumbent only if its mean loss is lower by more than z standard
errors, and the incumbent is then queried again, so that the loss to beat is not the selected one (adaptive.md, UniG, 2-3).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from attacks.base import Ending, Foresight, IncumbentAttack, QueryAttack
from attacks.losses import LOSSES, margin
from bench.core import rows
from bench.core.errors import BenchError
from bench.core.rows import column


class State(NamedTuple):
    inner: Any  # the attack's own state
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    seen: Tensor  # (B,) outputs so far for the image in hand
    logits: Tensor  # (B,K) their sum
    loss: Tensor  # (B,) sum of their losses
    square: Tensor  # (B,) sum of their squared losses
    testing: Tensor  # (B,) bool: the image in hand is the incumbent, tested again
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
                f"acceptance_z={self.accept} counts standard errors, which take outputs to estimate: it must be at least 0, "
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

    def query(self, s: State) -> Tensor:
        proposed = self.inner.query(s.inner)
        if self.accept is None:
            return proposed
        return torch.where(column(s.testing), s.inner.best, proposed)

    def ended(self, s: State) -> Tensor:
        """Where the attack has nothing left to try; a retest under way is finished with."""
        return self.inner.ended(s.inner) if isinstance(self.inner, Ending) else torch.zeros_like(s.testing)

    def candidate(self, s: State, output: Tensor) -> Tensor:
        """The last output for an image, where the mean fools, too."""
        mean = (s.logits + output) / self.times
        ready = (s.seen + 1 == self.times) & (margin(mean, s.y, s.target) < 0)
        return ready & (self.inner.candidate(s.inner, mean) | s.testing)

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        loss = self._loss(output, s)
        s = s._replace(seen=s.seen + 1, logits=s.logits + output, loss=s.loss + loss, square=s.square + loss.square())
        ready = s.seen == self.times
        return rows.change(s, ready, lambda some, of: self._decided(some, of(queried)), in_place=True)

    def ahead(self, s: State) -> State:
        """The same image again; after its last output, what the attack itself would guess."""
        s = s._replace(seen=s.seen + 1)
        inner = self.inner
        if not isinstance(inner, Foresight):
            return s
        ready = s.seen == self.times
        return rows.change(s, ready, lambda some, _: self._emptied(some)._replace(inner=inner.ahead(some.inner)))

    def _decided(self, s: State, queried: Tensor) -> State:
        """All outputs for the image are there: it replaces the incumbent or not, and then the incumbent is tested again."""
        mean = s.logits / self.times
        if self.accept is None:
            return self._emptied(s)._replace(inner=self.inner.observe(s.inner, queried, mean))
        inner = cast(IncumbentAttack[Any], self.inner)
        spread = (s.square / self.times - (s.loss / self.times).square()).clamp_min(0) / (self.times - 1)
        accepted = inner.accept(s.inner, mean, s.inner.loss - self.accept * (spread + s.error).sqrt())
        settled = inner.settle(s.inner, queried, mean, accepted)
        tested = s.inner._replace(loss=self._loss(mean, s))  # the incumbent's loss, from fresh outputs
        return self._emptied(s)._replace(
            inner=rows.where(s.testing, tested, settled),
            testing=~s.testing & accepted,
            error=torch.where(s.testing | accepted, spread, s.error),
        )

    def _emptied(self, s: State) -> State:
        return s._replace(**{name: torch.zeros_like(getattr(s, name)) for name in ("seen", "logits", "loss", "square")})

    def _loss(self, logits: Tensor, s: State) -> Tensor:
        return LOSSES[getattr(self.inner, "loss", "margin")](logits, s.y, s.target)
