"""Transfer from the undefended network: white-box examples on the bare model, one query each at the victim.

Whoever can have the network without its defence needs no queries to search. PGD with momentum (Madry et al. 2018; Dong et al.
2018, equation 6), from the image itself and from random starts; every restart's last image is queried once. It is a query attack,
so that it stands in a table beside the others, with a budget. Images that many victims share are `attacks/replay.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from attacks import norms
from attacks.losses import LOSSES
from bench.core.errors import BenchError, nearest
from bench.core.rng import mix, normal, uniform
from bench.core.threat import Threat


class State(NamedTuple):
    t: Tensor  # (B,) answers seen so far
    crafted: Tensor  # (B,R,C,H,W) in [0, 1]


@dataclass(frozen=True)
class Transfer:
    """step: as a share of eps; restarts: the first starts at the image, the others at random points of the ball."""

    threat: Threat
    source: nn.Module  # (B,C,H,W) -> logits; the attacker's own, so its passes are in no ledger
    steps: int
    step: float
    momentum: float
    restarts: int
    loss: Literal["margin", "cross_entropy"]
    needs: Mapping[str, Any] | None = None
    version: int = 1
    anytime = True
    feedback = "label"
    keeps_incumbent = False

    def __post_init__(self) -> None:
        norms.check("transfer", self.threat.norm, ("linf", "l2"))
        if self.loss not in LOSSES:
            raise BenchError(f"attack.loss={self.loss} is unknown{nearest(self.loss, LOSSES)}")
        if self.steps < 1 or self.restarts < 1 or self.step <= 0 or self.momentum < 0:
            raise BenchError(
                f"attack.steps={self.steps}, attack.restarts={self.restarts}, attack.step={self.step}, "
                f"attack.momentum={self.momentum}: the first two are at least 1, the step positive, the momentum at least 0"
            )
        if self.threat.queries > self.restarts:
            raise BenchError(
                f"transfer asks each of its attack.restarts={self.restarts} images once: set threat.queries={self.restarts}"
            )

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        crafted = [self._craft(x, y, target, mix(key, torch.full_like(y, r)), r) for r in range(self.threat.queries)]
        return State(torch.zeros_like(y), torch.stack(crafted, 1))

    def query(self, s: State) -> Tensor:
        return s.crafted[torch.arange(len(s.t), device=s.t.device), s.t.clamp_max(s.crafted.shape[1] - 1)]

    def candidate(self, s: State, output: Tensor) -> Tensor:
        return torch.ones_like(s.t, dtype=torch.bool)

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        return s._replace(t=s.t + 1)

    def ahead(self, s: State) -> State:
        """No output changes what is queried next."""
        return s._replace(t=s.t + 1)

    def _craft(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor, restart: int) -> Tensor:
        eps, linf = self.threat.radius, self.threat.norm == "linf"
        start = uniform(key, *x.shape[1:]) * 2 - 1 if linf else _unit(normal(key, *x.shape[1:]))
        current = norms.project(x, x + eps * start, self.threat.norm, self.threat.radius) if restart else x
        velocity = torch.zeros_like(x)
        for _ in range(self.steps):
            with torch.enable_grad():
                leaf = current.detach().requires_grad_()
                loss = LOSSES[self.loss](self.source(leaf), y, target).sum()
                (slope,) = torch.autograd.grad(loss, leaf)
            share = slope.abs().flatten(1).sum(1).clamp_min(1e-12).view(-1, 1, 1, 1)
            velocity = self.momentum * velocity + slope / share
            direction = velocity.sign() if linf else _unit(velocity)
            current = norms.project(x, current - self.step * eps * direction, self.threat.norm, self.threat.radius)
        return current.detach()


def _unit(v: Tensor) -> Tensor:
    return v / v.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
