"""GenAttack, linf (Alzantot et al. 2019, "GenAttack: Practical Black-box Attacks with Gradient-Free Optimization", algorithm 1).

A population of perturbations; the fittest stays, the others are children of two parents drawn by softmax of their fitness,
crossed over pixel by pixel and mutated. Every member of every generation is queried, the one that stays, too. Fitness is the log
odds of the target, or, untargeted, minus those of the true class.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks import norms
from bench.core import rows
from bench.core.errors import BenchError
from bench.core.rng import banked_uniform, coarse_uniform, mix, uniform
from bench.core.rows import column
from bench.core.threat import Threat


class State(NamedTuple):
    key: Tensor  # (B,)
    t: Tensor  # (B,) answers seen so far
    x: Tensor  # (B,C,H,W) in [0, 1], the clean image
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    members: Tensor  # (B,N,C,h,w) perturbations in [-eps, eps]
    fitness: Tensor  # (B,N) of those queried in this generation
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

    def query(self, s: State) -> Tensor:
        place = torch.arange(len(s.t), device=s.t.device) * self.population + s.t % self.population
        member = s.members.flatten(0, 1).index_select(0, place)
        if self.reduced is not None:
            member = F.interpolate(member, size=s.x.shape[2:], mode="bilinear")
        return torch.add(s.x, member).clamp_(0, 1)

    def candidate(self, s: State, output: Tensor) -> Tensor:
        return torch.ones_like(s.t, dtype=torch.bool)

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        aim = torch.where(s.target >= 0, s.target, s.y)[:, None]
        odds = output.gather(1, aim)[:, 0] - output.scatter(1, aim, -torch.inf).logsumexp(1)
        return self._advance(s, torch.where(s.target >= 0, odds, -odds))

    def ahead(self, s: State) -> State:
        """A generation's members do not depend on each other's fitness; the next generation does."""
        return s._replace(t=s.t + 1)

    def _advance(self, s: State, fitness: Tensor) -> State:
        place = s.t % self.population
        s = s._replace(t=s.t + 1, fitness=s.fitness.scatter(1, place[:, None], fitness[:, None]))
        # in place: a copy of the populations would cost more than the breeding
        return rows.update(s, place == self.population - 1, self._bred, in_place=True)

    def _bred(self, s: Any) -> dict[str, Tensor]:
        same = s.fitness.argmax(1) == 0
        stall = torch.where(same, s.stall + 1, 0)
        over = stall >= PATIENCE
        members = self._children(s)
        return {"members": members, "stall": torch.where(over, 0, stall), "plateaus": s.plateaus + over}

    def _rates(self, plateaus: Tensor) -> tuple[Tensor, Tensor]:
        """(B,1,1,1) each: mutation probability and range."""
        shrunk = column(0.9**plateaus) if self.adaptive else torch.zeros((), device=plateaus.device)
        return (0.5 * shrunk).clamp_min(self.mutation_probability), (0.4 * shrunk).clamp_min(self.mutation_range)

    def _children(self, s: Any) -> Tensor:
        """(R,N,C,h,w): the next generation of some rows, the elite first, unchanged.

        Breeding is bound by memory: a child at a time stays in the cache, and arithmetic on 0 and 1 is some four times as fast
        as masks. `share` is rounded to the 24 bits of a draw, so that `pick` is 0 or 1, never between.
        """
        key, fitness, members = mix(s.key, s.t), s.fitness, s.members
        others, radius = self.population - 1, self.threat.radius
        chance = (fitness / self.temperature).softmax(1)
        drawn = uniform(mix(key, torch.zeros_like(key)), 2, others)
        parents = torch.searchsorted(chance.cumsum(1), drawn.flatten(1)).clamp_max(others)
        first, second = chance.gather(1, parents).view(-1, 2, others, 1, 1, 1).unbind(1)
        share = (first / (first + second).clamp_min(1e-30)).mul_(2**24).round_()
        probability, extent = self._rates(s.plateaus)
        slope, width = -1 / probability.clamp_min(2**-24), 2 * radius * extent
        pool, base = members.flatten(0, 1), torch.arange(len(key), device=key.device) * self.population
        children = torch.empty_like(members)
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
