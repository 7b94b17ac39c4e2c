"""Steepest descent on a flow that moves no pixel further than eps, linf: one step is the FGR paper's single-step attack (FGSM on
the flow), many from v = 0 its multi-step one. Random start and restarts are ours: the paper's penalty holds at v = 0 exactly,
where the sampling has its kink.

A row stops at its first image that the victim gets wrong, so restarts only go on with what is robust so far; without that, and on
a random victim, as in `attacks/gradient/pgd.py`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import norms
from attacks.base import Found, Lowest, MakeOracle, Oracle, Rows
from attacks.losses import LOSSES
from attacks.spatial.flow import check_bound, pull
from bench.core.errors import BenchError, nearest
from bench.core.rng import mix, uniform
from bench.core.rows import idle
from bench.core.success import fooled
from bench.core.threat import Threat
from bench.core.warp import warp


@dataclass(frozen=True)
class FlowPgd:
    """threat.eps: in pixels. step: as a share of eps. random_start: every restart begins at a random flow; without it the first
    begins at v = 0. early_stop: has no effect on a random victim.

    Raises BenchError for norms other than flow_linf, for a bound larger than the image and for settings that make no sense.
    """

    threat: Threat
    steps: int
    step: float
    momentum: float
    random_start: bool
    restarts: int
    loss: str
    early_stop: bool
    oracle: MakeOracle | None = None
    version: int = 1
    chunk = None

    def __post_init__(self) -> None:
        norms.check("flow PGD", self.threat.norm, ("flow_linf",))
        if self.loss not in LOSSES:
            raise BenchError(f"attack.loss={self.loss} is unknown{nearest(self.loss, LOSSES)}")
        if self.steps < 1 or self.restarts < 1 or self.step <= 0 or self.momentum < 0:
            raise BenchError(
                f"attack.steps={self.steps}, attack.restarts={self.restarts}, attack.step={self.step}, "
                f"attack.momentum={self.momentum}: the first two are at least 1, the step positive, the momentum at least 0"
            )

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        flow, restart = self._search(oracle, x, rows)
        return Found(warp(x, flow), restart, flow)

    def flow(self, oracle: Oracle, x: Tensor, rows: Rows) -> Tensor:
        """(B,H,W,2) in pixels: what it moves each image by."""
        return self._search(oracle, x, rows)[0]

    def _search(self, oracle: Oracle, x: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """-> the flow of each row and the restart that found it."""
        check_bound(self.threat, x)
        if not self.early_stop:
            return self._to_the_end(oracle, x, rows)
        found, restart = x.new_zeros(len(x), *x.shape[2:], 2), torch.zeros_like(rows.y)
        standing = torch.ones_like(rows.y, dtype=torch.bool)
        for nth in range(self.restarts):
            start = self._start(x, mix(rows.key, rows.key * 0 + nth), nth)
            flow, hit = self._descend(oracle, x, start, rows, standing)
            index = standing & ~hit
            if nth + 1 < self.restarts and not idle(index, nth):  # the last one's end is judged by the cell
                hit = hit | (fooled(oracle.logits(warp(x, flow), rows, index), rows.y, rows.target) & index)
            found = torch.where(standing.view(-1, 1, 1, 1), flow, found)
            restart = torch.where(standing, nth, restart)
            standing = standing & ~hit
            if idle(standing, nth):
                break
        return found, restart

    def _to_the_end(self, oracle: Oracle, x: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        everyone = torch.ones_like(rows.y, dtype=torch.bool)
        none = x.new_zeros(len(x), *x.shape[2:], 2)
        best = Lowest(none, torch.zeros_like(rows.y), torch.full_like(rows.y, torch.inf, dtype=x.dtype))
        for nth in range(self.restarts):
            start = self._start(x, mix(rows.key, rows.key * 0 + nth), nth)
            flow, _ = self._descend(oracle, x, start, rows, everyone)
            if self.restarts == 1:  # nothing to choose from, nothing to pay
                return flow, best.restart
            loss = LOSSES[self.loss](oracle.logits(warp(x, flow), rows, everyone), rows.y, rows.target)
            best = best.or_lower(flow, nth, loss)
        return best.found, best.restart

    def _start(self, x: Tensor, key: Tensor, nth: int) -> Tensor:
        """(B,H,W,2)"""
        if not (self.random_start or nth):
            return x.new_zeros(len(x), *x.shape[2:], 2)
        return (uniform(key, *x.shape[2:], 2) * 2 - 1) * self.threat.radius

    def _descend(self, oracle: Oracle, x: Tensor, flow: Tensor, rows: Rows, live: Tensor) -> tuple[Tensor, Tensor]:
        """-> the last flow of each row, and which rows stopped at one that fools."""
        eps = self.threat.radius
        velocity, hit = torch.zeros_like(flow), torch.zeros_like(live)
        for step in range(self.steps):
            answer = oracle(warp(x, flow), rows, self.loss, live)
            if self.early_stop:
                hit = hit | (live & fooled(answer.logits, rows.y, rows.target))
                live = live & ~hit
                if idle(live, step):
                    break
            slope = pull(x, flow, answer.grad)
            if self.momentum:  # MI-FGSM's, each gradient scaled to mean size 1
                size = slope.abs().flatten(1).mean(1).clamp_min(1e-30)
                velocity = self.momentum * velocity + slope / size.view(-1, 1, 1, 1)
                slope = velocity
            moved = (flow - self.step * eps * slope.sign()).clamp(-eps, eps)
            flow = torch.where(live.view(-1, 1, 1, 1), moved, flow)
        return flow, hit
