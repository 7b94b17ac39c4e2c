"""The search for the constant c of "distance + c * loss" (Carlini and Wagner 2017, section V.A), a constant for each image.

Halved between the largest that failed and the least that fooled; times ten until one fools.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from attacks.base import Found, Rows
from bench.core.rows import idle

PATIENCE = 10  # abort_early looks `PATIENCE` times a search step


class Best(NamedTuple):
    distance: Tensor  # (B,) of the nearest image that fools, inf without one
    image: Tensor  # (B,C,H,W)
    loss: Tensor  # (B,) of the image of lowest loss, as long as none fools

    def nearer(self, hit: Tensor, live: Tensor, distance: Tensor, image: Tensor, loss: Tensor) -> "Best":
        """With the images of the rows that are a `hit` and nearer than any before; of a row without any hit, the image of lowest
        loss: where a margin is asked for that nothing reaches, the clean image would pass for the attack's. Rows that are not
        `live` got no loss, but a zero."""
        better = hit & (distance < self.distance)
        closer = live & ~hit & self.distance.isinf() & (loss < self.loss)
        taken = (better | closer).view(-1, 1, 1, 1)
        return Best(
            torch.where(better, distance, self.distance),
            torch.where(taken, image, self.image),
            torch.where(closer, loss, self.loss),
        )


def abort(live: Tensor, objective: Tensor, checked: Tensor, step: int, steps: int) -> tuple[Tensor, Tensor]:
    """After step 1, 2, ... of `steps` -> rows whose objective still falls, and what to compare with next time."""
    if step % max(1, -(-steps // PATIENCE)):
        return live, checked
    return live & (objective <= 0.9999 * checked), objective


def search(
    attempt: Callable[[Tensor, Best, Tensor], tuple[Best, Tensor]],
    x: Tensor,
    rows: Rows,
    *,
    searches: int,
    first: float,
    enough: float | None = None,
    asked: float = 0.0,
) -> Found:
    """attempt: (c (B,), best so far, live rows (B,)) -> (best, (B,) whether this constant fooled at all).

    enough: a distance at which a row needs no other constant. asked: the margin (kappa); where it is 0 a row that nothing fools
    keeps its clean image. Found.restart is the step of the search that found the image.
    """
    b = len(rows.y)
    low, high = torch.zeros(b, device=x.device), torch.full((b,), torch.inf, device=x.device)
    c = torch.full((b,), float(first), device=x.device)
    lowest = torch.full((b,), torch.inf if asked > 0 else -torch.inf, device=x.device)
    best = Best(torch.full((b,), torch.inf, device=x.device), x, lowest)
    live, found = torch.ones_like(rows.y, dtype=torch.bool), torch.zeros_like(rows.y)
    for nth in range(searches):
        before = best
        best, worked = attempt(c, best, live)
        found = torch.where((best.distance < before.distance) | (best.loss < before.loss), nth, found)
        if enough is not None:
            live = live & (best.distance > enough)
            if idle(live, nth):
                break
        low, high = torch.where(worked, low, c), torch.where(worked, c, high)
        c = torch.where(high.isinf(), c * 10, (low + high) / 2)
    return Found(best.image, found)
