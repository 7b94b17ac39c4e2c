"""stAdv (Xiao et al. 2018, equations 2-5): a smooth flow that fools, min over v of max(margin, -kappa) + c * L_flow(v).

By SGD with momentum, as in the FGR paper, or by L-BFGS, as in its own, here one for all rows: each has its own history and
its own step size, every trial is one pass. A row ends at the first image whose margin reaches kappa. Untargeted unless the threat
says otherwise; under threat.norm=flow_linf every flow is clipped to eps, under `none` it is free.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from attacks import norms
from attacks.base import Found, MakeOracle, Oracle, Rows
from attacks.spatial.flow import check_bound, pull, roughness
from bench.core.errors import BenchError
from bench.core.rows import idle
from bench.core.threat import Threat
from bench.core.warp import warp

ARMIJO, SMALLEST = 1e-4, 1e-6  # L-BFGS: the fall asked of a step, and the step below which a row forgets its history


class Point(NamedTuple):
    """A flow and what the oracle says of it."""

    flow: Tensor  # (B,H,W,2)
    value: Tensor  # (B,) the objective
    slope: Tensor  # (B,H,W,2)
    hit: Tensor  # (B,) bool: the margin reaches kappa


@dataclass(frozen=True)
class StAdv:
    """c: weight of the roughness, whose unit is pixels. lr, momentum: SGD's; lr is in pixels per unit of the objective's slope by
    pixels. history: pairs that L-BFGS remembers. Raises BenchError for settings that make no sense.
    """

    threat: Threat
    solver: Literal["sgd", "lbfgs"]
    steps: int
    c: float
    kappa: float
    lr: float
    momentum: float
    history: int
    oracle: MakeOracle | None = None
    version: int = 1
    chunk = None

    def __post_init__(self) -> None:
        norms.check("stAdv", self.threat.norm, ("none", "flow_linf"))
        if self.solver not in ("sgd", "lbfgs"):
            raise BenchError(f"attack.solver={self.solver} is unknown; there are: sgd, lbfgs")
        if (
            self.steps < 1
            or self.c < 0
            or self.kappa < 0
            or self.lr <= 0
            or not 0 <= self.momentum < 1
            or self.history < 1
        ):
            raise BenchError(
                f"attack.steps={self.steps} and attack.history={self.history} are at least 1, attack.c={self.c} and "
                f"attack.kappa={self.kappa} at least 0, attack.lr={self.lr} positive, attack.momentum={self.momentum} in [0, 1)"
            )

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        flow = self.flow(oracle, x, rows)
        return Found(warp(x, flow), torch.zeros_like(rows.y), flow)

    def flow(self, oracle: Oracle, x: Tensor, rows: Rows) -> Tensor:
        """(B,H,W,2) in pixels: what it moves each image by."""
        check_bound(self.threat, x)
        return self._sgd(oracle, x, rows) if self.solver == "sgd" else self._lbfgs(oracle, x, rows)

    def _at(self, oracle: Oracle, x: Tensor, rows: Rows, flow: Tensor, live: Tensor) -> Point:
        answer = oracle(warp(x, flow), rows, "margin", live)
        rough, by_rough = roughness(flow)
        open_ = (answer.loss > -self.kappa).to(x.dtype)
        value = answer.loss.clamp_min(-self.kappa) + self.c * rough
        slope = pull(x, flow, answer.grad) * open_.view(-1, 1, 1, 1) + self.c * by_rough
        return Point(flow, value, slope, live & (answer.loss < -self.kappa))

    def _clip(self, flow: Tensor) -> Tensor:
        return flow if self.threat.norm == "none" else flow.clamp(-self.threat.radius, self.threat.radius)

    def _sgd(self, oracle: Oracle, x: Tensor, rows: Rows) -> Tensor:
        flow = x.new_zeros(len(x), *x.shape[2:], 2)
        velocity, live = torch.zeros_like(flow), torch.ones_like(rows.y, dtype=torch.bool)
        for step in range(self.steps):
            here = self._at(oracle, x, rows, flow, live)
            live = live & ~here.hit
            if idle(live, step):
                break
            velocity = self.momentum * velocity + here.slope
            flow = torch.where(_column(live), self._clip(flow - self.lr * velocity), flow)
        return flow

    def _lbfgs(self, oracle: Oracle, x: Tensor, rows: Rows) -> Tensor:
        """`steps` passes in all, line search included."""
        live = torch.ones_like(rows.y, dtype=torch.bool)
        here = self._at(oracle, x, rows, x.new_zeros(len(x), *x.shape[2:], 2), live)
        live = live & ~here.hit
        moves = x.new_zeros(self.history, *here.flow.shape)  # oldest first; an empty pair is zero and does nothing
        turns = torch.zeros_like(moves)
        direction, size = _direction(here.slope, moves, turns), _first_size(here.slope)
        for step in range(self.steps - 1):
            if idle(live, step):
                break
            there = self._at(oracle, x, rows, self._clip(here.flow + _column(size) * direction), live)
            # where the bound clips a step, it may lead uphill by the slope: no rise is asked for then, and none allowed
            asked = (ARMIJO * _dot(there.flow - here.flow, here.slope)).clamp_max(0.0)
            taken = live & ((there.value <= here.value + asked) | there.hit)
            move, turn = there.flow - here.flow, there.slope - here.slope
            curved = taken & (_dot(move, turn) > 1e-10 * _dot(turn, turn))
            moves, turns = _remember(moves, move, curved), _remember(turns, turn, curved)
            here = Point(*(torch.where(_like(taken, a), a, b) for a, b in zip(there, here, strict=True)))
            size = torch.where(taken, 1.0, size / 2)
            lost = live & ~taken & (size < SMALLEST)
            moves, turns = (each * ~_column(lost) for each in (moves, turns))
            fresh = taken | lost
            direction = torch.where(_column(fresh), _direction(here.slope, moves, turns), direction)
            empty = fresh & ~moves.flatten(2).any(2).any(0)
            size = torch.where(empty, _first_size(here.slope), size)
            live = live & ~here.hit
        return here.flow


def _direction(slope: Tensor, moves: Tensor, turns: Tensor) -> Tensor:
    """L-BFGS's two loops (Nocedal and Wright, algorithm 7.4), per row."""
    q, shares = -slope, []
    weights = [_inverse(_dot(move, turn)) for move, turn in zip(moves, turns, strict=True)]
    for move, turn, weight in reversed(list(zip(moves, turns, weights, strict=True))):
        share = weight * _dot(move, q)
        shares.append(share)
        q = q - _column(share) * turn
    scale = _dot(moves[-1], turns[-1]) * _inverse(_dot(turns[-1], turns[-1]))
    q = q * _column(torch.where(scale > 0, scale, 1.0))
    for move, turn, weight, share in zip(moves, turns, weights, reversed(shares), strict=True):
        q = q + _column(share - weight * _dot(turn, q)) * move
    return q


def _remember(pairs: Tensor, new: Tensor, rows: Tensor) -> Tensor:
    return torch.where(_column(rows), torch.cat([pairs[1:], new[None]]), pairs)


def _first_size(slope: Tensor) -> Tensor:
    """(B,): moves the steepest pixel by half a pixel."""
    return 0.5 / slope.abs().flatten(1).amax(1).clamp_min(1e-12)


def _inverse(value: Tensor) -> Tensor:
    return torch.where(value > 0, 1 / value.clamp_min(1e-30), 0.0)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _column(rows: Tensor) -> Tensor:
    return rows.view(-1, 1, 1, 1)


def _like(rows: Tensor, other: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (other.ndim - 1))
