"""HopSkipJump, l2 and linf, from labels alone (Chen, Jordan and Wainwright 2020, algorithm 2).

Walks along the decision boundary: binary search to it, an estimate of its normal from random probes around the point reached, a
step along the normal whose length is halved until it still fools, and again. Any query inside the ball that fools ends the
attack, so the walk stops as soon as it has come near enough.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks import norms
from bench.core.errors import BenchError
from bench.core.rng import banked_normal, bits, coarse_uniform, integers, mix, uniform
from bench.core.threat import Threat

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
    needs: Mapping[str, Any] | None = None
    version: int = 1
    anytime = True
    feedback = "label"
    keeps_incumbent = False

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
        zero, none, image = torch.zeros_like(y), x.new_zeros(len(x)), torch.zeros_like(x)
        return State(
            key, zero, x, y, target, zero.clone(), zero + 1, image, none, none.clone(), none.clone(), x.clone(),
            zero.clone(), none.clone(), image.clone(), image.clone(), none.clone(),
        )  # fmt: skip

    def ask(self, s: State) -> Tensor:
        return _by_phase(s, (self._begin, self._middle, self._probe, self._step))

    def candidate(self, s: State, reply: Tensor) -> Tensor:
        return torch.ones_like(s.t, dtype=torch.bool)

    def tell(self, s: State, asked: Tensor, reply: Tensor) -> State:
        """Writes into `s`, and only what a row's phase changes: there are five images a row."""
        fools = torch.where(s.target >= 0, reply == s.target, reply != s.y)
        phase = s.phase.clone()
        for number, learn in enumerate((self._began, self._searched, self._probed, self._stepped)):
            index = (phase == number).nonzero()[:, 0]
            if len(index):
                learn(s, index, asked[index], fools[index])
        return s._replace(t=s.t + 1)

    # BEGIN: random images until one fools; targeted: images of the target's class

    def _begin(self, s: State, index: Tensor) -> Tensor:
        key, t, target = s.key[index], s.t[index], s.target[index]
        noise = uniform(mix(key, t), *s.x.shape[1:])
        if self.starts is None or self.threat.goal == "untargeted":  # whose rows have no target to look up
            return noise
        images, labels = self.starts
        own = labels == target[:, None]  # (B,n)
        if not own.any(1).all():
            missing = target[~own.any(1)][0]
            raise BenchError(
                f"hopskipjump has no start of class {int(missing)}: raise attack.needs.starts.n={len(labels)}"
            )
        nth = (integers(bits(key, 1)[:, 0], own.sum(1)) + t) % own.sum(1)
        return images[((own.cumsum(1) == nth[:, None] + 1) & own).long().argmax(1)]

    def _began(self, s: State, index: Tensor, asked: Tensor, fools: Tensor) -> None:
        ready = fools.nonzero()[:, 0]
        self._to_search(s, index[ready], asked[ready])

    def _to_search(self, s: State, index: Tensor, far: Tensor) -> None:
        reach = self._distance(s.x[index], far)
        high = torch.ones_like(reach) if self.threat.norm == "l2" else reach
        _write(s, index, phase=SEARCH, far=far, reach=reach, low=0.0, high=high)

    # SEARCH: the boundary between x and `far`

    def _middle(self, s: State, index: Tensor) -> Tensor:
        return self._between(s, index, (s.low[index] + s.high[index]) / 2)

    def _between(self, s: State, index: Tensor, share: Tensor) -> Tensor:
        x, far, share = s.x[index], s.far[index], share.view(-1, 1, 1, 1)
        if self.threat.norm == "l2":
            return ((1 - share) * x + share * far).clamp_(0, 1)
        return torch.minimum(torch.maximum(far, x - share), x + share).clamp_(0, 1)

    def _searched(self, s: State, index: Tensor, asked: Tensor, fools: Tensor) -> None:
        low, high, theta = s.low[index], s.high[index], self._theta(s.x)
        middle = (low + high) / 2
        between = (middle > low) & (middle < high)  # else float32 ends
        low, high = torch.where(fools, low, middle), torch.where(fools, middle, high)
        limit = torch.full_like(low, theta) if self.threat.norm == "l2" else (s.reach[index] * theta).clamp_max(theta)
        _write(s, index, low=low, high=high)
        done = (high - low <= limit) | ~between
        ended, d = index[done], s.x[0].numel()
        if not len(ended):
            return
        size = (d**0.5 if self.threat.norm == "l2" else d) * theta * s.reach[ended]
        _write(
            s, ended, phase=PROBE, point=self._between(s, ended, high[done]), probes=0, hits=0.0, signed=0.0, plain=0.0,
            size=torch.where(s.turn[ended] == 1, 0.1, size),
        )  # fmt: skip

    def _theta(self, x: Tensor) -> float:
        return self.gamma / x[0].numel() ** (1.5 if self.threat.norm == "l2" else 2)

    # PROBE: which side of the boundary do random neighbours lie on?

    def _probe(self, s: State, index: Tensor) -> Tensor:
        key, shape = mix(s.key[index], s.t[index]), s.x.shape[1:]
        noise = banked_normal(key, *shape) if self.threat.norm == "l2" else coarse_uniform(key, *shape).mul_(2).sub_(1)
        length = s.size[index] / noise.flatten(1).norm(dim=1)
        return noise.mul_(length.view(-1, 1, 1, 1)).add_(s.point[index]).clamp_(0, 1)

    def _probed(self, s: State, index: Tensor, asked: Tensor, fools: Tensor) -> None:
        probe = (asked - s.point[index]).div_(s.size[index].clamp_min(1e-12).view(-1, 1, 1, 1))
        answer = fools.float() * 2 - 1
        s.signed.index_add_(0, index, probe * answer.view(-1, 1, 1, 1))
        s.plain.index_add_(0, index, probe)
        probes = s.probes[index] + 1
        _write(s, index, probes=probes, hits=s.hits[index] + answer)
        done = probes >= (self.initial_probes * s.turn[index].float().sqrt()).long().clamp_max(self.max_probes)
        if not done.any():
            return
        ended = index[done]
        mean, signed = (s.hits[ended] / s.probes[ended]).view(-1, 1, 1, 1), s.signed[ended]
        slope = torch.where(
            mean.abs() == 1, signed, signed - mean * s.plain[ended]
        )  # the mean: a baseline (equation 17)
        if self.threat.norm == "l2":
            slope = slope / slope.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
        else:
            slope = slope.sign()
        length = self._distance(s.x[ended], s.point[ended]) / s.turn[ended].float().sqrt()
        _write(s, ended, phase=STEP, signed=slope, size=length)

    # STEP: as far along the normal as it still fools

    def _step(self, s: State, index: Tensor) -> Tensor:
        return torch.addcmul(s.point[index], s.signed[index], s.size[index].view(-1, 1, 1, 1)).clamp_(0, 1)

    def _stepped(self, s: State, index: Tensor, asked: Tensor, fools: Tensor) -> None:
        size = s.size[index]
        stuck = ~fools & (size < 1e-6)  # no step fools: search again from here
        ready = fools | stuck
        far = torch.where(stuck[ready].view(-1, 1, 1, 1), s.point[index[ready]], asked[ready])
        _write(s, index, turn=s.turn[index] + ready, size=torch.where(fools, size, size / 2))
        self._to_search(s, index[ready], far)

    def _distance(self, x: Tensor, image: Tensor) -> Tensor:
        gap = (image - x).flatten(1)
        return gap.norm(dim=1) if self.threat.norm == "l2" else gap.abs().amax(1)


def _by_phase(s: State, makers: tuple[Callable[[State, Tensor], Tensor], ...]) -> Tensor:
    """(B,C,H,W): each row's image by the maker of its phase, on no more rows than are in it."""
    asked = None
    for phase, make in enumerate(makers):
        index = (s.phase == phase).nonzero()[:, 0]
        if len(index) == len(s.t):
            return make(s, index)
        if len(index):
            asked = torch.empty_like(s.x) if asked is None else asked
            asked[index] = make(s, index)
    assert asked is not None
    return asked


def _write(s: State, index: Tensor, **fields: Tensor | float) -> None:
    for name, value in fields.items():
        getattr(s, name)[index] = value
