"""Where a white-box attack gets its gradients: from the victim itself, through a stand-in for what has none, averaged over a
random defence, over several networks, or by finite differences. They nest: any attack takes any of them (`attack/oracle=...`).

Whoever asks pays: each pass through a victim is counted per sample, forward and backward.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attacks.base import Evaluation, Oracle, Rows
from attacks.losses import LOSSES
from bench.core.errors import BenchError, nearest
from bench.core.rng import Draw, Stream, mix, normal
from bench.core.victim import Victim

Forward = Callable[[Tensor, Draw], Tensor]
LEARNED = "learned"  # the backward pass of a surrogate
SIDE_BY_SIDE = (
    4  # network calls that EOT's draws of one batch fill at once; their images and gradients lie in memory together
)


class Exact:
    """Autograd through the defence as it is. Raises BenchError for one that autograd can't go through."""

    def __init__(self, victim: Victim) -> None:
        if not victim.defense.traits.differentiable:
            raise BenchError(
                f"{type(victim.defense).__name__} has no gradient for attack/oracle=exact; use attack/oracle=bpda"
            )
        self.victim, self._forward = victim, victim.defense

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        return self.victim.gradient(x, self._draw(rows), rows.y, rows.target, known(loss), live, self._forward)

    def logits(self, x: Tensor, rows: Rows, live: Tensor) -> Tensor:
        return self.victim.forward_only(x, self._draw(rows), live)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        return self.victim.through(x, self._draw(rows), self._forward)

    def several(self, x: Tensor, rows: Rows, loss: str, live: Tensor, n: int) -> Iterator[Evaluation]:
        """What `n` calls would answer one after the other, side by side in as few network calls as they fill."""
        times, b = torch.arange(n, device=x.device).repeat_interleave(len(x)), len(x)
        draw = self._draw(rows)
        nth = draw.nth.repeat(n) + times * live.repeat(n)  # rows that are not live are not counted
        draw = draw._replace(sample=rows.sample.repeat(n), nth=nth)
        answer = self.victim.gradient(
            x.repeat(n, 1, 1, 1),
            draw,
            rows.y.repeat(n),
            rows.target.repeat(n),
            known(loss),
            live.repeat(n),
            self._forward,
        )
        for start in range(0, n * b, b):
            yield Evaluation(*(column[start : start + b] for column in answer))

    def _draw(self, rows: Rows) -> Draw:
        """Fresh noise for each pass: a function of the sample and of how often it was asked."""
        return Draw(self.victim.seed, rows.sample, self.victim.passes(rows.sample), Stream.EOT)


class Bpda(Exact):
    """The victim's own forward pass with another backward pass (Athalye et al. 2018, section 4.1). kind: `identity`, which every
    defence has, what else the defence offers (`Defense.approximate`), or `learned`: that of a network which learned from the
    defence's answers (`attack.surrogate`); its passes are the attacker's own and in no ledger."""

    def __init__(self, victim: Victim, kind: str) -> None:
        self.victim = victim
        if kind != LEARNED:
            victim.defense.check_kind(kind)
            self._forward = lambda x, draw: victim.defense.approximate(x, draw, kind)
            return
        surrogate = victim.surrogate
        if surrogate is None:
            raise BenchError(
                "attack.oracle.kind=learned goes back through a surrogate; add +surrogate@attack.surrogate=answers"
            )

        def learned(x: Tensor, draw: Draw) -> Tensor:
            own = surrogate(x)
            return own + (victim.defense(x.detach(), draw) - own).detach()

        self._forward = learned


class Eot:
    """The mean over `samples` fresh draws of a random victim (Athalye et al. 2018, section 4.2): of losses, gradients, logits."""

    def __init__(self, victim: Victim, samples: int, inner: Callable[..., Oracle]) -> None:
        if samples < 1:
            raise BenchError(f"attack.oracle.samples={samples}: EOT averages at least 1 draw")
        self.samples: int = samples
        self.inner: Any = inner(victim=victim)

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        return mean(self._draws(x, rows, loss, live), self.samples)

    def _draws(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Iterator[Evaluation]:
        """One after the other, or several side by side where they share network calls."""
        inner = self.inner
        at_once = 1
        if type(inner) in (Exact, Bpda) and not (
            inner.victim.defense.traits.coupled or inner.victim.defense.traits.stateful
        ):
            at_once = max(1, SIDE_BY_SIDE * inner.victim.rows // len(x))
        for start in range(0, self.samples, at_once):
            n = min(at_once, self.samples - start)
            yield from [inner(x, rows, loss, live)] if n == 1 else inner.several(x, rows, loss, live, n)

    def logits(self, x: Tensor, rows: Rows, live: Tensor) -> Tensor:
        return torch.stack([self.inner.logits(x, rows, live) for _ in range(self.samples)]).mean(0)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        return torch.stack([self.inner.forward(x, rows) for _ in range(self.samples)]).mean(0)


class Ensemble:
    """Several networks as one: mean loss, mean gradient, mean logits (Liu et al. 2017 fuse logits; Dong et al. 2018 both)."""

    def __init__(self, members: Sequence[Oracle]) -> None:
        self.members = members

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        return mean((member(x, rows, loss, live) for member in self.members), len(self.members))

    def logits(self, x: Tensor, rows: Rows, live: Tensor) -> Tensor:
        return torch.stack([member.logits(x, rows, live) for member in self.members]).mean(0)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        return torch.stack([member.forward(x, rows) for member in self.members]).mean(0)


class FiniteDifferences(Exact):
    """No gradient at all: central differences of the victim's own answers along `samples` random directions, `h` apart."""

    def __init__(self, victim: Victim, samples: int, h: float) -> None:
        if samples < 1 or h <= 0:
            raise BenchError(f"attack.oracle.samples={samples} is at least 1, attack.oracle.h={h} positive")
        self.victim, self.samples, self.h = victim, samples, h
        self._forward = victim.defense

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        value, logits = self._value(x, rows, loss, live)
        grad = torch.zeros_like(x)
        for nth in range(self.samples):
            direction = normal(mix(rows.key, self.victim.passes(rows.sample), rows.key * 0 + nth), *x.shape[1:])
            ahead, behind = (x + self.h * direction).clamp(0, 1), (x - self.h * direction).clamp(0, 1)
            rise = self._value(ahead, rows, loss, live)[0] - self._value(behind, rows, loss, live)[0]
            grad += (rise / (2 * self.h * self.samples)).view(-1, 1, 1, 1) * direction
        return Evaluation(value, grad, logits)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        raise BenchError(
            "attack/oracle=finite_differences has no network for an engine such as AutoAttack to go back through"
        )

    def _value(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(x, rows, live)
        return torch.where(live, known(loss)(logits, rows.y, rows.target), 0.0), logits


@dataclass
class Watched:
    """What the attack received, for the table's flags: zero and non-finite gradients per sample. NaN becomes 0, and infinity
    the largest float, so that what an attack does with either doesn't depend on its library."""

    inner: Any  # an oracle; None for replayed images, which ask nothing
    calls: Tensor  # (S,) float64 by sample number: gradients received
    zero: Tensor  # (S,) sum of the shares of zero entries
    broken: Tensor  # (S,) gradients with NaN or infinity

    @classmethod
    def over(cls, inner: Any, samples: int, device: torch.device) -> "Watched":
        return cls(inner, *(torch.zeros(samples, dtype=torch.float64, device=device) for _ in range(3)))

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        answer = self.inner(x, rows, loss, live)
        return answer._replace(grad=self._note(answer.grad, rows, live))

    def logits(self, x: Tensor, rows: Rows, live: Tensor) -> Tensor:
        return self.inner.logits(x, rows, live)

    def mean(self, x: Tensor, rows: Rows, samples: int) -> Tensor:
        """Of attacks.oracles.moved: no gradient to watch."""
        return self.inner.mean(x, rows, samples)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        if x.requires_grad:  # its owner goes back through it
            x.register_hook(lambda grad: self._note(grad, rows, torch.ones_like(rows.y, dtype=torch.bool)))
        return self.inner.forward(x, rows)

    def _note(self, grad: Tensor, rows: Rows, live: Tensor) -> Tensor:
        flat = grad.flatten(1)
        self.calls.index_add_(0, rows.sample, live.double())
        self.zero.index_add_(0, rows.sample, (flat == 0).double().mean(1) * live)
        self.broken.index_add_(0, rows.sample, (~torch.isfinite(flat).all(1) & live).double())
        return grad.nan_to_num(0.0)


def mean(answers: Iterator[Evaluation], n: int) -> Evaluation:
    """Added up one by one: 20 gradients of a batch need not be held at once."""
    total = next(answers)
    for answer in answers:
        total = Evaluation(*(a + b for a, b in zip(total, answer, strict=True)))
    return Evaluation(*(column / n for column in total))


def known(loss: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if loss not in LOSSES:
        raise BenchError(f"attack.loss={loss} is unknown{nearest(loss, LOSSES)}")
    return LOSSES[loss]
