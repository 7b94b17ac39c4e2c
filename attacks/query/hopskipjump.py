"""HopSkipJump, l2 and linf, from labels alone (Chen, Jordan and Wainwright 2020, algorithm 2).

Walks along the decision boundary: binary search to it, an estimate of its normal from random probes around the point reached, a
step along the normal whose length is halved until it still fools, and again. Any query inside the ball that fools ends the
attack, so the walk stops as soon as it has come near enough.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from bench import rows
from bench.errors import BenchError
from bench.rng import bits, integers, mix, normal, uniform
from bench.threat import Threat

BEGIN, SEARCH, PROBE, STEP = range(4)


class State(NamedTuple):
    key: Tensor  # (B,)
    t: Tensor  # (B,) queries told so far
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
    probes: Tensor  # (B,) asked so far
    hits: Tensor  # (B,) sum of +1 and -1
    signed: Tensor  # (B,C,H,W) sum of answer * probe; later the step's direction
    plain: Tensor  # (B,C,H,W) sum of the probes
    size: Tensor  # (B,) length of the probes, then of the step


@dataclass(frozen=True)
class HopSkipJump:
    """initial_probes: the paper's B_0; gamma: scales the search's threshold; starts: images (n,C,H,W) with labels (n,) that a
    targeted attack begins at."""

    threat: Threat
    initial_probes: int
    max_probes: int
    gamma: float
    starts: tuple[Tensor, Tensor] | None = None
    anytime = True
    feedback = "label"
    keeps_incumbent = False

    def __post_init__(self) -> None:
        if self.threat.norm not in ("linf", "l2"):
            raise BenchError(f"hopskipjump has no threat.norm={self.threat.norm}; use linf or l2")
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
        zero, none, image = torch.zeros_like(y), x.new_zeros(len(x)), torch.zeros_like(x)
        return State(
            key, zero, x, y, target, zero.clone(), zero + 1, image, none, none.clone(), none.clone(), x.clone(),
            zero.clone(), none.clone(), image.clone(), image.clone(), none.clone(),
        )  # fmt: skip

    def ask(self, s: State) -> Tensor:
        return _by_phase(s, (self._begin, lambda s: self._between(s, (s.low + s.high) / 2), self._probe, self._step))

    def candidate(self, s: State, reply: Tensor) -> Tensor:
        return torch.ones_like(s.t, dtype=torch.bool)

    def tell(self, s: State, asked: Tensor, reply: Tensor) -> State:
        fools = torch.where(s.target >= 0, reply == s.target, reply != s.y)
        for phase, learn in enumerate((self._began, self._searched, self._probed, self._stepped)):
            index = (s.phase == phase).nonzero()[:, 0]
            if len(index) == len(s.t):
                s = learn(s, asked, fools)
                break
            if len(index):  # + 4 marks the rows that have had their turn: none is told twice
                some = learn(rows.take(s, index), asked[index], fools[index])
                s = rows.put(s, index, some._replace(phase=some.phase + 4))
        return s._replace(t=s.t + 1, phase=s.phase % 4)

    # BEGIN: random images until one fools; targeted: images of the target's class

    def _begin(self, s: State) -> Tensor:
        noise = uniform(mix(s.key, s.t), *s.x.shape[1:])
        if self.starts is None or self.threat.goal == "untargeted":  # whose rows have no target to look up
            return noise
        images, labels = self.starts
        own = labels == s.target[:, None]  # (B,n)
        if not own.any(1).all():
            missing = s.target[~own.any(1)][0]
            raise BenchError(
                f"hopskipjump has no start of class {int(missing)}: raise attack.needs.starts.n={len(labels)}"
            )
        nth = (integers(bits(s.key, 1)[:, 0], own.sum(1)) + s.t) % own.sum(1)
        return images[((own.cumsum(1) == nth[:, None] + 1) & own).long().argmax(1)]

    def _began(self, s: State, asked: Tensor, fools: Tensor) -> State:
        return self._to_search(s, asked, fools)

    def _to_search(self, s: State, far: Tensor, ready: Tensor) -> State:
        reach = self._distance(s.x, far)
        high = torch.ones_like(reach) if self.threat.norm == "l2" else reach
        return s._replace(
            phase=torch.where(ready, SEARCH, s.phase),
            far=torch.where(ready[:, None, None, None], far, s.far),
            reach=torch.where(ready, reach, s.reach),
            low=torch.where(ready, 0.0, s.low),
            high=torch.where(ready, high, s.high),
        )

    # SEARCH: the boundary between x and `far`

    def _between(self, s: State, share: Tensor) -> Tensor:
        share = share.view(-1, 1, 1, 1)
        if self.threat.norm == "l2":
            return ((1 - share) * s.x + share * s.far).clamp_(0, 1)
        return torch.minimum(torch.maximum(s.far, s.x - share), s.x + share).clamp_(0, 1)

    def _searched(self, s: State, asked: Tensor, fools: Tensor) -> State:
        middle, theta = (s.low + s.high) / 2, self._theta(s.x)
        low, high = torch.where(fools, s.low, middle), torch.where(fools, middle, s.high)
        limit = torch.full_like(low, theta) if self.threat.norm == "l2" else (s.reach * theta).clamp_max(theta)
        done = (high - low <= limit) | (middle <= s.low) | (middle >= s.high)  # or float32 ends
        d = s.x[0].numel()
        size = (d**0.5 if self.threat.norm == "l2" else d) * theta * s.reach
        image = done.view(-1, 1, 1, 1)
        return s._replace(
            low=low,
            high=high,
            phase=torch.where(done, PROBE, s.phase),
            point=torch.where(image, self._between(s, high), s.point),
            probes=torch.where(done, 0, s.probes),
            hits=torch.where(done, 0.0, s.hits),
            signed=torch.where(image, 0.0, s.signed),
            plain=torch.where(image, 0.0, s.plain),
            size=torch.where(done, torch.where(s.turn == 1, 0.1, size), s.size),
        )

    def _theta(self, x: Tensor) -> float:
        return self.gamma / x[0].numel() ** (1.5 if self.threat.norm == "l2" else 2)

    # PROBE: which side of the boundary do random neighbours lie on?

    def _probe(self, s: State) -> Tensor:
        if self.threat.norm == "l2":
            noise = normal(mix(s.key, s.t), *s.x.shape[1:])
        else:
            noise = uniform(mix(s.key, s.t), *s.x.shape[1:]).mul_(2).sub_(1)
        length = s.size / noise.flatten(1).norm(dim=1)
        return torch.addcmul(s.point, noise, length.view(-1, 1, 1, 1)).clamp_(0, 1)

    def _probed(self, s: State, asked: Tensor, fools: Tensor) -> State:
        probe = (asked - s.point) / s.size.clamp_min(1e-12).view(-1, 1, 1, 1)
        answer = fools.float() * 2 - 1
        signed, plain = torch.addcmul(s.signed, answer.view(-1, 1, 1, 1), probe), s.plain + probe
        probes, hits = s.probes + 1, s.hits + answer
        s = s._replace(signed=signed, plain=plain, probes=probes, hits=hits)
        done = probes >= (self.initial_probes * s.turn.float().sqrt()).long().clamp_max(self.max_probes)
        if not done.any():
            return s
        mean = (hits / probes).view(-1, 1, 1, 1)
        slope = torch.where(mean.abs() == 1, signed, signed - mean * plain)  # the mean as a baseline (equation 17)
        if self.threat.norm == "l2":
            slope = slope / slope.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        else:
            slope = slope.sign()
        length = self._distance(s.x, s.point) / s.turn.float().sqrt()
        return s._replace(
            phase=torch.where(done, STEP, s.phase),
            signed=torch.where(done.view(-1, 1, 1, 1), slope, signed),
            size=torch.where(done, length, s.size),
        )

    # STEP: as far along the normal as it still fools

    def _step(self, s: State) -> Tensor:
        return torch.addcmul(s.point, s.signed, s.size.view(-1, 1, 1, 1)).clamp_(0, 1)

    def _stepped(self, s: State, asked: Tensor, fools: Tensor) -> State:
        stuck = ~fools & (s.size < 1e-6)  # no step fools: search again from here
        far = torch.where(stuck[:, None, None, None], s.point, asked)
        told = self._to_search(s, far, fools | stuck)
        return told._replace(turn=s.turn + (fools | stuck), size=torch.where(fools, s.size, s.size / 2))

    def _distance(self, x: Tensor, image: Tensor) -> Tensor:
        gap = (image - x).flatten(1)
        return gap.norm(dim=1) if self.threat.norm == "l2" else gap.abs().amax(1)


def _by_phase(s: State, makers: tuple[Callable[[State], Tensor], ...]) -> Tensor:
    """(B,C,H,W): each row's image by the maker of its phase, on no more rows than are in it."""
    asked = None
    for phase, make in enumerate(makers):
        index = (s.phase == phase).nonzero()[:, 0]
        if len(index) == len(s.t):
            return make(s)
        if len(index):
            asked = torch.empty_like(s.x) if asked is None else asked
            asked[index] = make(rows.take(s, index))
    assert asked is not None
    return asked
