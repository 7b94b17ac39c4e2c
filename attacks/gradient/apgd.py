"""Auto-PGD (Croce and Hein 2020, algorithm 1) of our own: the engine's step sizes, restarts from the best point and momentum,
with every row by itself, so that it fits random and coupled victims, any oracle, and any choice of images.

With `targets` each run aims at one of the likeliest other classes in turn (their APGD-T). Of all runs the end of lowest margin is
kept, by the oracle's fresh (averaged) answers; a row that fools stops there, but on a random victim, where a lucky draw is no
success.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import losses, norms
from attacks.base import Found, Lowest, MakeOracle, Oracle, Rows
from attacks.losses import LOSSES, margin
from bench.core.errors import BenchError, nearest
from bench.core.rng import mix
from bench.core.rows import idle
from bench.core.success import fooled
from bench.core.threat import Threat

MOMENTUM = 0.75  # alpha: the share of the gradient's step
RISING = 0.75  # rho: of the steps between two checkpoints, those that must have lowered the loss


@dataclass(frozen=True)
class Apgd:
    """steps: gradients of a run. targets: 0, or how many other classes, the likeliest on the clean image first. restarts: of
    each. Raises BenchError for norms other than linf and l2 and for settings that make no sense."""

    threat: Threat
    steps: int
    restarts: int
    targets: int
    loss: str
    early_stop: bool
    oracle: MakeOracle | None = None
    version: int = 1
    chunk = None

    def __post_init__(self) -> None:
        norms.check("APGD", self.threat.norm, ("linf", "l2"))
        if self.loss not in LOSSES:
            raise BenchError(f"attack.loss={self.loss} is unknown{nearest(self.loss, LOSSES)}")
        if self.steps < 2 or self.restarts < 1 or self.targets < 0:
            raise BenchError(
                f"attack.steps={self.steps}, attack.restarts={self.restarts}, attack.targets={self.targets}: at least 2, 1 and 0"
            )
        if self.targets and self.threat.goal != "untargeted":
            raise BenchError(
                f"threat.goal={self.threat.goal}: with attack.targets={self.targets} APGD chooses its own; set attack.targets=0"
            )

    def check_classes(self, classes: int) -> None:
        if self.targets >= classes:
            raise BenchError(
                f"attack.targets={self.targets}, but there are {classes - 1} other classes; set it to that at most"
            )
        losses.check_classes(self.loss, classes, self.targets > 0)

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        standing = torch.ones_like(rows.y, dtype=torch.bool)
        best = Lowest(x, torch.zeros_like(rows.y), torch.full_like(rows.y, torch.inf, dtype=x.dtype))
        for nth, target in enumerate(self._targets(oracle, x, rows) * self.restarts):
            aimed = rows._replace(target=target, key=mix(rows.key, rows.key * 0 + nth))
            end = self._run(oracle, x, aimed, rows.target, standing)
            logits = oracle.logits(end, rows, standing)
            left = torch.where(standing, margin(logits, rows.y, rows.target), torch.inf)
            best = best.or_lower(end, nth, left)
            if self.early_stop:
                standing = standing & ~fooled(logits, rows.y, rows.target)
                if idle(standing, nth):
                    break
        return Found(best.found, best.restart)

    def _targets(self, oracle: Oracle, x: Tensor, rows: Rows) -> list[Tensor]:
        """(B,) each: the classes that the runs aim at."""
        if not self.targets:
            return [rows.target]
        logits = oracle.logits(x, rows, torch.ones_like(rows.y, dtype=torch.bool))
        order = logits.scatter(1, rows.y[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
        return list(order[:, : self.targets].unbind(1))

    def _run(self, oracle: Oracle, x: Tensor, rows: Rows, goal: Tensor, live: Tensor) -> Tensor:
        """(B,C,H,W): of each row the point of lowest loss, or the first that fools. goal (B,): the threat's own targets."""
        norm, radius = self.threat.norm, self.threat.radius
        start = norms.random_point(rows.key, tuple(x.shape[1:]), norm, radius)
        point = previous = norms.project(x, x + start, norm, radius)
        best, slope, lowest = point, torch.zeros_like(x), torch.full_like(rows.y, torch.inf, dtype=x.dtype)
        grad, last, before = slope, lowest, lowest
        size = torch.full_like(lowest, 2 * radius)
        fell, halved = torch.zeros_like(lowest), torch.ones_like(live)
        checks, since = checkpoints(self.steps), 0
        for step in range(self.steps):
            if step:
                stride = size.view(-1, 1, 1, 1) * norms.steepest(-grad, norm)
                ahead = norms.project(x, point + stride, norm, radius)
                share = MOMENTUM if step > 1 else 1.0
                moved = point + share * (ahead - point) + (1 - share) * (point - previous)
                moved = torch.where(live.view(-1, 1, 1, 1), norms.project(x, moved, norm, radius), point)
                previous, point = point, moved
            answer = oracle(point, rows, self.loss, live)
            grad = answer.grad
            fell = fell + ((answer.loss < last) if step else 0)
            last = answer.loss
            lower = live & (answer.loss < lowest)
            if self.early_stop:
                hit = live & fooled(answer.logits, rows.y, goal)
                lower, live = lower | hit, live & ~hit
            at = lower.view(-1, 1, 1, 1)
            best, slope = torch.where(at, point, best), torch.where(at, grad, slope)
            lowest = torch.where(lower, answer.loss, lowest)
            if self.early_stop and idle(live, step):
                break
            if step in checks:
                stuck = (fell < RISING * (step - since)) | (~halved & (lowest >= before))
                at = stuck.view(-1, 1, 1, 1)
                size = torch.where(stuck, size / 2, size)
                point, grad = torch.where(at, best, point), torch.where(at, slope, grad)
                halved, before, since, fell = stuck, lowest, step, torch.zeros_like(fell)
        return best


def checkpoints(steps: int) -> Sequence[int]:
    """The steps after which the step size is looked at (section 3.1): 22% of all, then ever closer, 6% apart at the least."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return sorted({-(-round(share * steps * 1000) // 1000) for share in shares[1:] if share < 1})
