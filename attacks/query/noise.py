"""Random noise on the border of the ball: the floor that every attack must beat. linf: random corners; l2: random directions."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from attacks import norms
from bench.core.rng import bits, integers, mix, normal
from bench.core.threat import Threat


class State(NamedTuple):
    key: Tensor  # (B,)
    t: Tensor  # (B,)
    x: Tensor  # (B,C,H,W) in [0, 1]


@dataclass(frozen=True)
class Noise:
    threat: Threat
    version: int = 1
    anytime = True
    keeps_incumbent = False
    feedback = "label"

    def __post_init__(self) -> None:
        norms.check("noise", self.threat.norm, ("linf", "l2"))

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        return State(key, torch.zeros_like(y), x)

    def query(self, s: State) -> Tensor:
        key, eps = mix(s.key, s.t), self.threat.radius
        if self.threat.norm == "linf":
            corner = integers(bits(key, s.x[0].numel()), 2).view_as(s.x) * 2 - 1
            return (s.x + eps * corner).clamp_(0, 1)
        direction = normal(key, *s.x.shape[1:])
        length = direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return (s.x + direction * (eps / length)).clamp_(0, 1)

    def candidate(self, s: State, output: Tensor) -> Tensor:
        return torch.ones_like(s.t, dtype=torch.bool)

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        return s._replace(t=s.t + 1)

    def ahead(self, s: State) -> State:
        """No output changes what is queried next."""
        return s._replace(t=s.t + 1)
