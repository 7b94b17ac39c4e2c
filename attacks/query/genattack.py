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

from bench import rows
from bench.errors import BenchError
from bench.rng import banked_words, coarse_uniform, mix, uniform
from bench.threat import Threat


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
    anytime = True
    feedback = "logits"
    keeps_incumbent = False

    def __post_init__(self) -> None:
        if self.threat.norm != "linf":
            raise BenchError(f"genattack has no threat.norm={self.threat.norm}; use linf")
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
        member = s.members[torch.arange(len(s.t), device=s.t.device), s.t % self.population]
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
        some = rows.take(told, ready)
        same = some.fitness.argmax(1) == 0
        stall = torch.where(same, some.stall + 1, 0)
        over = stall >= PATIENCE
        s.members[ready] = self._children(some)  # in place: a copy of the populations would cost more than the breeding
        return told._replace(
            stall=s.stall.index_copy(0, ready, torch.where(over, 0, stall)),
            plateaus=s.plateaus.index_copy(0, ready, some.plateaus + over),
        )

    def _rates(self, s: State) -> tuple[Tensor, Tensor]:
        """(B,1,1,1,1) each: mutation probability and range."""
        shrunk = (0.9**s.plateaus).view(-1, 1, 1, 1, 1) if self.adaptive else torch.zeros((), device=s.t.device)
        return (0.5 * shrunk).clamp_min(self.mutation_probability), (0.4 * shrunk).clamp_min(self.mutation_range)

    def _children(self, s: State) -> Tensor:
        """(B,N,C,h,w): the elite first, unchanged."""
        row, others = torch.arange(len(s.t), device=s.t.device)[:, None], self.population - 1
        chance = (s.fitness / self.temperature).softmax(1)
        drawn = uniform(mix(s.key, s.t, torch.zeros_like(s.t)), 2 * others)
        parents = torch.searchsorted(chance.cumsum(1), drawn).clamp_max(others).view(-1, 2, others)
        first, second = chance[row[:, None], parents].unbind(1)  # (B,N-1)
        word = banked_words(
            mix(s.key, s.t, torch.ones_like(s.t)), others, *s.members.shape[2:]
        )  # serves two draws a pixel
        share = (first / (first + second).clamp_min(1e-30))[:, :, None, None, None]
        one, two = (s.members[row, parents[:, i]] for i in (0, 1))
        child = torch.where(word < _threshold(share), one, two)
        probability, extent = self._rates(s)
        low, below = word.bitwise_and_(2**20 - 1), (probability * 2**20).int()
        reach = extent * self.threat.radius
        change = low.float().mul_(2 * reach / below.clamp_min(1)).sub_(reach)  # uniform where `low` lies below
        child += change.masked_fill_(low >= below, 0)
        elite = s.members[row[:, 0], s.fitness.argmax(1)][:, None]
        return torch.cat([elite, child.clamp_(-self.threat.radius, self.threat.radius)], 1)


def _threshold(share: Tensor) -> Tensor:
    """Random int32 words lie below it with probability `share`."""
    return (share.double() * 2**32 - 2**31).clamp_max(2**31 - 1).int()
