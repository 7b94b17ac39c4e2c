"""Projected gradient descent (Madry et al. 2018, equation 2.2) in linf, l2 and l1, with what its relatives add: one step is FGSM
(Goodfellow et al. 2015, section 4) or FGM, momentum is MI-FGSM (Dong et al. 2018, equations 6 and 7).

A row stops at its first image that the victim gets wrong, so restarts only go on with what is robust so far. Without that
(`early_stop: false`, and always on a random victim, whose lucky draw on the boundary is no success) every restart runs to its
end, and the image of lowest loss is kept, by fresh answers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import norms
from attacks.base import Found, Lowest, MakeOracle, Oracle, Rows
from attacks.losses import LOSSES
from bench.core.errors import BenchError, nearest
from bench.core.rng import mix
from bench.core.rows import idle
from bench.core.success import fooled
from bench.core.threat import Threat


@dataclass(frozen=True)
class Pgd:
    """step: as a share of eps. random_start: every restart begins at a random point of the ball; without it the first begins at
    the image. early_stop: has no effect on a random victim.

    Raises BenchError for norms other than linf, l2, l1 and for settings that make no sense.
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
        norms.check("PGD", self.threat.norm, ("linf", "l2", "l1"))
        if self.loss not in LOSSES:
            raise BenchError(f"attack.loss={self.loss} is unknown{nearest(self.loss, LOSSES)}")
        if self.steps < 1 or self.restarts < 1 or self.step <= 0 or self.momentum < 0:
            raise BenchError(
                f"attack.steps={self.steps}, attack.restarts={self.restarts}, attack.step={self.step}, "
                f"attack.momentum={self.momentum}: the first two are at least 1, the step positive, the momentum at least 0"
            )

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        if not self.early_stop:
            return self._to_the_end(oracle, x, rows)
        image, restart = x, torch.zeros_like(rows.y)
        standing = torch.ones_like(rows.y, dtype=torch.bool)
        for nth in range(self.restarts):
            start = self._start(x, mix(rows.key, rows.key * 0 + nth), nth)
            current, hit = self._descend(oracle, x, start, rows, standing)
            index = standing & ~hit
            if nth + 1 < self.restarts and not idle(index, nth):  # the last one's end is judged by the cell
                hit = hit | (fooled(oracle.logits(current, rows, index), rows.y, rows.target) & index)
            image = torch.where(standing.view(-1, 1, 1, 1), current, image)
            restart = torch.where(standing, nth, restart)
            standing = standing & ~hit
            if idle(standing, nth):
                break
        return Found(image, restart)

    def _to_the_end(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        everyone = torch.ones_like(rows.y, dtype=torch.bool)
        best = Lowest(x, torch.zeros_like(rows.y), torch.full_like(rows.y, torch.inf, dtype=x.dtype))
        for nth in range(self.restarts):
            start = self._start(x, mix(rows.key, rows.key * 0 + nth), nth)
            current, _ = self._descend(oracle, x, start, rows, everyone)
            if self.restarts == 1:  # nothing to choose from, nothing to pay
                return Found(current, best.restart)
            loss = LOSSES[self.loss](oracle.logits(current, rows, everyone), rows.y, rows.target)
            best = best.or_lower(current, nth, loss)
        return Found(best.found, best.restart)

    def _start(self, x: Tensor, key: Tensor, nth: int) -> Tensor:
        if not (self.random_start or nth):
            return x
        noise = norms.random_point(key, tuple(x.shape[1:]), self.threat.norm, self.threat.radius)
        return norms.project(x, x + noise, self.threat.norm, self.threat.radius)

    def _descend(self, oracle: Oracle, x: Tensor, current: Tensor, rows: Rows, live: Tensor) -> tuple[Tensor, Tensor]:
        """-> the last image of each row, and which rows stopped at one that fools."""
        norm, radius = self.threat.norm, self.threat.radius
        velocity, hit = torch.zeros_like(x), torch.zeros_like(live)
        for step in range(self.steps):
            answer = oracle(current, rows, self.loss, live)
            if self.early_stop:
                hit = hit | (live & fooled(answer.logits, rows.y, rows.target))
                live = live & ~hit
                if idle(live, step):
                    break
            grad = -answer.grad  # the loss is what the attacker minimises
            if self.momentum:
                velocity = self.momentum * velocity + _per_mean(grad)
                grad = velocity
            grad = norms.free(grad, current) if norm == "l1" else grad
            moved = current + self.step * radius * norms.steepest(grad, norm)
            current = torch.where(live.view(-1, 1, 1, 1), norms.project(x, moved, norm, radius), current)
        return current, hit


def _per_mean(grad: Tensor) -> Tensor:
    """Divided by its mean size, per image (Dong et al. divide by the l1 length, a constant factor away), safe at any scale."""
    flat = grad.flatten(1)
    flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(1e-38)
    return (flat / flat.abs().mean(1, keepdim=True).clamp_min(1e-12)).view_as(grad)
