"""GenAttack, linf (Alzantot et al. 2019, "GenAttack: Practical Black-box Attacks with Gradient-Free Optimization", algorithm 1).

A population of perturbations; the fittest stays, the others are children of two parents drawn by softmax of their fitness,
crossed over pixel by pixel and mutated. Every member of every generation is asked, the one that stays, too. Fitness is the log
odds of the target, or, untargeted, minus those of the true class.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks import norms
from bench.core.errors import BenchError
from bench.core.rng import banked_uniform, coarse_uniform, mix, uniform
from bench.core.threat import Threat


class State(NamedTuple):
    key: Tensor  # (B,)
    t: Tensor  # (B,) queries told so far
    x: Tensor  # (B,C,H,W) in [0, 1], the clean image
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    members: Tensor  # (B,N,C,h,w) perturbations in [-eps, eps]
    fitness: Tensor  # (B,N) of those asked in this generation
    stall: Tensor  # (B,) generations in which the elite stayed the same
    plateaus: Tensor  # (B,) how often that came to PATIENCE


PATIENCE = 100  # generations


@dataclass(frozen=True)
class GenAttack:
    """mutation_range: as a share of eps; adaptive: probability and range begin at 0.5 and 0.4 and shrink by a tenth at each
    plateau, down to the values given (the paper's section 4.3); reduced: perturbations of reduced x reduced pixels, enlarged to
    the image (section 4.2), null = as large as the image.
    """

    threat: Threat
    population: int
    mutation_probability: float
    mutation_range: float
    temperature: float
    adaptive: bool
    reduced: int | None
    version: int = 1
    anytime = True
    feedback = "logits"
    keeps_incumbent = False

    def __post_init__(self) -> None:
        norms.check("genattack", self.threat.norm, ("linf",))
        if self.population < 2 or self.temperature <= 0:
            raise BenchError(
                f"attack.population={self.population} must be at least 2, attack.temperature={self.temperature} positive"
            )
        if not (0 <= self.mutation_probability <= 1 and self.mutation_range >= 0):
            raise BenchError(
                f"attack.mutation_probability={self.mutation_probability} must lie in [0, 1] and "
                f"attack.mutation_range={self.mutation_range} be at least 0"
            )
        if self.threat.queries < self.population:
            raise BenchError(
                f"one generation of genattack takes attack.population={self.population} answers, threat.queries="
                f"{self.threat.queries}; set a smaller population or a larger budget"
            )

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        height, width = x.shape[2:]
        if self.reduced is not None and not 0 < self.reduced <= min(height, width):
            raise BenchError(
                f"attack.reduced={self.reduced} does not fit images of {height}x{width}; set it to at most "
                f"{min(height, width)}, or null"
            )
        shape = (height, width) if self.reduced is None else (self.reduced, self.reduced)
        members = coarse_uniform(mix(key), self.population, x.shape[1], *shape).mul_(2).sub_(1).mul_(self.threat.radius)
        zero = torch.zeros_like(y)
        fitness = x.new_zeros(len(x), self.population)
        return State(key, zero, x, y, target, members, fitness, zero.clone(), zero.clone())

    def ask(self, s: State) -> Tensor:
        place = torch.arange(len(s.t), device=s.t.device) * self.population + s.t % self.population
        member = s.members.flatten(0, 1).index_select(0, place)
        if self.reduced is not None:
            member = F.interpolate(member, size=s.x.shape[2:], mode="bilinear")
        return torch.add(s.x, member).clamp_(0, 1)

    def candidate(self, s: State, reply: Tensor) -> Tensor:
        return torch.ones_like(s.t, dtype=torch.bool)

    def tell(self, s: State, asked: Tensor, reply: Tensor) -> State:
        aim = torch.where(s.target >= 0, s.target, s.y)[:, None]
        odds = reply.gather(1, aim)[:, 0] - reply.scatter(1, aim, -torch.inf).logsumexp(1)
        place = (s.t % self.population)[:, None]
        fitness = s.fitness.scatter(1, place, torch.where(s.target >= 0, odds, -odds)[:, None])
        told = s._replace(t=s.t + 1, fitness=fitness)
        ready = (place[:, 0] == self.population - 1).nonzero()[:, 0]
        if not len(ready):
            return told
        same = told.fitness[ready].argmax(1) == 0
        stall = torch.where(same, s.stall[ready] + 1, 0)
        over = stall >= PATIENCE
        # in place: a copy of the populations would cost more than the breeding
        s.members.index_copy_(0, ready, self._children(told, ready))
        return told._replace(
            stall=s.stall.index_copy(0, ready, torch.where(over, 0, stall)),
            plateaus=s.plateaus.index_copy(0, ready, s.plateaus[ready] + over),
        )

    def _rates(self, plateaus: Tensor) -> tuple[Tensor, Tensor]:
        """(B,1,1,1) each: mutation probability and range."""
        shrunk = (0.9**plateaus).view(-1, 1, 1, 1) if self.adaptive else torch.zeros((), device=plateaus.device)
        return (0.5 * shrunk).clamp_min(self.mutation_probability), (0.4 * shrunk).clamp_min(self.mutation_range)

    def _children(self, s: State, ready: Tensor) -> Tensor:
        """(R,N,C,h,w) of the rows `ready`: the elite first, unchanged.

        Breeding is bound by memory: a child at a time stays in the cache, and arithmetic on 0 and 1 is some four times as fast
        as masks. `share` is rounded to the 24 bits of a draw, so that `pick` is 0 or 1, never between.
        """
        key, fitness = mix(s.key[ready], s.t[ready]), s.fitness[ready]
        others, radius = self.population - 1, self.threat.radius
        chance = (fitness / self.temperature).softmax(1)
        drawn = uniform(mix(key, torch.zeros_like(key)), 2, others)
        parents = torch.searchsorted(chance.cumsum(1), drawn.flatten(1)).clamp_max(others)
        first, second = chance.gather(1, parents).view(-1, 2, others, 1, 1, 1).unbind(1)
        share = (first / (first + second).clamp_min(1e-30)).mul_(2**24).round_()
        probability, extent = self._rates(s.plateaus[ready])
        slope, width = -1 / probability.clamp_min(2**-24), 2 * radius * extent
        pool, base = s.members.flatten(0, 1), ready * self.population
        children = s.members.new_empty(len(ready), *s.members.shape[1:])
        children[:, 0] = pool.index_select(0, base + fitness.argmax(1))
        for i in range(others):
            crossed, mutated = banked_uniform(mix(key, torch.full_like(key, i + 1)), 2, *pool.shape[1:]).unbind(1)
            pick = torch.sub(share[:, i], crossed, alpha=2**24).clamp_(0, 1)
            one, two = (pool.index_select(0, base + parents[:, i + side]) for side in (0, others))
            # in (-0.5, 0.5], 0 where nothing mutates
            change = torch.threshold_(torch.mul(mutated, slope).add_(1), 0, 0.5).sub_(0.5)
            child = two.lerp_(one, pick).addcmul_(change, width)
            torch.clamp(child, -radius, radius, out=children[:, i + 1])
        return children
