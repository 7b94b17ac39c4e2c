"""HopSkipJump, l2 and linf, from labels alone (Chen, Jordan and Wainwright 2020, algorithm 2).

Walks along the decision boundary: binary search to it, an estimate of its normal from random probes around the point reached, a
step along the normal whose length is halved until it still fools, and again. Any query inside the ball that fools ends the
attack, so the walk stops as soon as it has come near enough.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks import norms
from bench.core import rows
from bench.core.errors import BenchError
from bench.core.rng import banked_normal, bits, coarse_uniform, integers, mix, onward, uniform
from bench.core.rows import column
from bench.core.threat import Threat

BEGIN, SEARCH, PROBE, STEP = range(4)
TRIES = 32  # images of noise, before an untargeted attack begins at the starts that it was given
Learn = Callable[[Any, Tensor, Tensor], dict[str, Tensor]]


class State(NamedTuple):
    key: Tensor  # (B,) the row's own, mixed once
    word: Tensor  # (B,) its first random word, which chooses among the starts
    t: Tensor  # (B,) answers seen so far
    x: Tensor  # (B,C,H,W) in [0, 1], the clean image
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    phase: Tensor  # (B,) BEGIN, SEARCH, PROBE or STEP
    turn: Tensor  # (B,) iteration, from 1
    far: Tensor  # (B,C,H,W) fools: the far end of the search
    reach: Tensor  # (B,) its distance from x
    low: Tensor  # (B,) search: does not fool
    high: Tensor  # (B,) search: fools; a share of the way (l2), a radius (linf)
    point: Tensor  # (B,C,H,W) fools, on the boundary
    probes: Tensor  # (B,) queried so far
    hits: Tensor  # (B,) sum of +1 and -1
    signed: Tensor  # (B,C,H,W) sum of answer * probe; later the step's direction
    plain: Tensor  # (B,C,H,W) sum of the probes
    size: Tensor  # (B,) length of the probes, then of the step


@dataclass(frozen=True)
class HopSkipJump:
    """initial_probes: the paper's B_0; gamma: scales the search's threshold; starts: images (n,C,H,W) with labels (n,) that a
    targeted attack begins at, and an untargeted one where TRIES images of noise have the own label."""

    threat: Threat
    initial_probes: int
    max_probes: int
    gamma: float
    starts: tuple[Tensor, Tensor] | None = None
    needs: Mapping[str, Any] | None = None
    version: int = 1
    anytime = True
    feedback = "label"
    keeps_incumbent = False
    needs_start = True  # a row that no image fools is one that the attack never began on

    def __post_init__(self) -> None:
        norms.check("hopskipjump", self.threat.norm, ("linf", "l2"))
        if not (1 <= self.initial_probes <= self.max_probes and self.gamma > 0):
            raise BenchError(
                f"attack.initial_probes={self.initial_probes}, attack.max_probes={self.max_probes}, attack.gamma="
                f"{self.gamma}: probes are at least 1 and at most max_probes, gamma is positive"
            )
        if self.threat.goal != "untargeted" and self.starts is None:
            raise BenchError(
                f"hopskipjump with threat.goal={self.threat.goal} begins at images of the target's class: set "
                "+attack.needs.starts='{split: train, n: 1000}'"
            )

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        if self.starts is not None and self.threat.goal != "untargeted":
            own = (self.starts[1] == target[:, None]).any(1)
            if not own.all():
                raise BenchError(
                    f"hopskipjump has no start of class {int(target[~own][0])}: raise attack.needs.starts.n="
                    f"{len(self.starts[1])}"
                )

        def count(value: int = 0) -> Tensor:
            return torch.full_like(y, value)

        def number() -> Tensor:
            return x.new_zeros(len(x))

        return State(
            key=mix(key), word=bits(key, 1)[:, 0],
            t=count(), x=x, y=y, target=target, phase=count(BEGIN), turn=count(1), far=torch.zeros_like(x),
            reach=number(), low=number(), high=number(), point=x.clone(), probes=count(), hits=number(),
            signed=torch.zeros_like(x), plain=torch.zeros_like(x), size=number(),
        )  # fmt: skip

    def query(self, s: State) -> Tensor:
        makers = (self._begin, self._middle, self._probe, self._step)
        queried = s.x
        for phase, make in enumerate(makers):
            queried = rows.fill(queried, s, s.phase == phase, make)
        return queried

    def candidate(self, s: State, output: Tensor) -> Tensor:
        return torch.ones_like(s.t, dtype=torch.bool)

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        fools = torch.where(s.target >= 0, output == s.target, output != s.y)
        return self._advance(s, queried, fools, in_place=True)  # there are five images a row

    def ahead(self, s: State) -> State:
        """The probes of an iteration do not depend on each other; elsewhere the guess is that nothing fools."""
        return self._advance(s, s.x, torch.zeros_like(s.phase, dtype=torch.bool), in_place=False)

    def otherwise(self, s: State, queried: Tensor) -> State:
        """It fools, and more is asked: it lies outside the ball."""
        return self._advance(s, queried, torch.ones_like(s.phase, dtype=torch.bool), in_place=False)

    def _advance(self, s: State, queried: Tensor, fools: Tensor, in_place: bool) -> State:
        """Only what a row's phase changes."""
        phase = s.phase
        s = s._replace(t=s.t + 1, phase=phase.clone())
        for number, learn in enumerate((self._began, self._searched, self._probed, self._stepped)):
            changed = partial(self._learned, learn, queried, fools)
            s = rows.update(s, phase == number, changed, in_place)
        return s

    @staticmethod
    def _learned(learn: Learn, queried: Tensor, fools: Tensor, s: Any) -> dict[str, Tensor]:
        return learn(s, s.of(queried), s.of(fools))

    # BEGIN: random images until one fools; targeted: images of the target's class

    def _begin(self, s: Any) -> Tensor:
        noise = uniform(onward(s.key, s.t), *s.x.shape[1:])
        if self.starts is None:
            return noise
        images, labels = self.starts
        untargeted = self.threat.goal == "untargeted"
        own = labels != s.y[:, None] if untargeted else labels == s.target[:, None]  # (B,n)
        nth = (integers(s.word, own.sum(1)) + s.t) % own.sum(1).clamp_min(1)
        given = images[((own.cumsum(1) == nth[:, None] + 1) & own).long().argmax(1)]
        return torch.where(column(s.t < TRIES), noise, given) if untargeted else given

    def _began(self, s: Any, queried: Tensor, fools: Tensor) -> dict[str, Tensor]:
        return self._to_search(s, fools, queried)

    def _to_search(self, s: Any, ready: Tensor, far: Tensor) -> dict[str, Tensor]:
        """The rows that are `ready` search between x and `far`, which fools."""
        reach = self._distance(s.x, far)
        high = torch.ones_like(reach) if self.threat.norm == "l2" else reach
        return {
            "phase": torch.where(ready, SEARCH, s.phase), "far": torch.where(column(ready), far, s.far),
            "reach": torch.where(ready, reach, s.reach), "low": torch.where(ready, 0.0, s.low),
            "high": torch.where(ready, high, s.high),
        }  # fmt: skip

    # SEARCH: the boundary between x and `far`

    def _middle(self, s: Any) -> Tensor:
        return self._between(s, (s.low + s.high) / 2)

    def _between(self, s: Any, share: Tensor) -> Tensor:
        share = column(share)
        if self.threat.norm == "l2":
            return ((1 - share) * s.x + share * s.far).clamp_(0, 1)
        return torch.minimum(torch.maximum(s.far, s.x - share), s.x + share).clamp_(0, 1)

    def _searched(self, s: Any, queried: Tensor, fools: Tensor) -> dict[str, Tensor]:
        theta, middle = self._theta(s.x), (s.low + s.high) / 2
        between = (middle > s.low) & (middle < s.high)  # else float32 ends
        low, high = torch.where(fools, s.low, middle), torch.where(fools, middle, s.high)
        limit = torch.full_like(low, theta) if self.threat.norm == "l2" else (s.reach * theta).clamp_max(theta)
        done = (high - low <= limit) | ~between
        d = s.x[0].numel()
        size = (d**0.5 if self.threat.norm == "l2" else d) * theta * s.reach
        probes = {
            "probes": torch.where(done, 0, s.probes), "hits": torch.where(done, 0.0, s.hits),
            "size": torch.where(done, torch.where(s.turn == 1, 0.1, size), s.size),
            "phase": torch.where(done, PROBE, s.phase), "low": low, "high": high,
        }  # fmt: skip
        return probes | self._cleared(s, done, high)

    def _cleared(self, s: Any, done: Tensor, high: Tensor) -> dict[str, Tensor]:
        """The images of the rows whose search is `done`: the point on the boundary, and no probes yet."""
        if rows.on_host(done) and not done.any():  # most ticks; three images a row
            return {}
        gone = column(done)
        empty = {name: torch.where(gone, 0.0, getattr(s, name)) for name in ("signed", "plain")}
        return empty | {"point": torch.where(gone, self._between(s, high), s.point)}

    def _theta(self, x: Tensor) -> float:
        return self.gamma / x[0].numel() ** (1.5 if self.threat.norm == "l2" else 2)

    # PROBE: which side of the boundary do random neighbours lie on?

    def _probe(self, s: Any) -> Tensor:
        key, shape = onward(s.key, s.t), s.x.shape[1:]
        noise = banked_normal(key, *shape) if self.threat.norm == "l2" else coarse_uniform(key, *shape).mul_(2).sub_(1)
        length = s.size / noise.flatten(1).norm(dim=1)
        return noise.mul_(column(length)).add_(s.point).clamp_(0, 1)

    def _probed(self, s: Any, queried: Tensor, fools: Tensor) -> dict[str, Tensor]:
        """Adds sign * probe; after the last one the gradient's direction, whose baseline is the mean sign (equation 17)."""
        probe = (queried - s.point).div_(column(s.size.clamp_min(1e-12)))
        sign = fools.float() * 2 - 1
        signed, plain = s.signed + probe * column(sign), s.plain + probe
        probes, hits = s.probes + 1, s.hits + sign
        done = probes >= (self.initial_probes * s.turn.float().sqrt()).long().clamp_max(self.max_probes)
        found = {"probes": probes, "hits": hits, "signed": signed, "plain": plain}
        if rows.on_host(done) and not done.any():
            return found
        mean = column(hits / probes)
        direction = torch.where(mean.abs() == 1, signed, signed - mean * plain)
        if self.threat.norm == "l2":
            direction = direction / column(direction.flatten(1).norm(dim=1).clamp_min(1e-12))
        else:
            direction = direction.sign()
        length = self._distance(s.x, s.point) / s.turn.float().sqrt()
        return found | {
            "phase": torch.where(done, STEP, s.phase), "signed": torch.where(column(done), direction, signed),
            "size": torch.where(done, length, s.size),
        }  # fmt: skip

    # STEP: as far along the normal as it still fools

    def _step(self, s: Any) -> Tensor:
        return torch.addcmul(s.point, s.signed, column(s.size)).clamp_(0, 1)

    def _stepped(self, s: Any, queried: Tensor, fools: Tensor) -> dict[str, Tensor]:
        stuck = ~fools & (s.size < 1e-6)  # no step fools: search again from here
        ready = fools | stuck
        far = torch.where(column(stuck), s.point, queried)
        size = torch.where(fools, s.size, s.size / 2)
        return self._to_search(s, ready, far) | {"turn": s.turn + ready, "size": size}

    def _distance(self, x: Tensor, image: Tensor) -> Tensor:
        delta = (image - x).flatten(1)
        return delta.norm(dim=1) if self.threat.norm == "l2" else delta.abs().amax(1)
