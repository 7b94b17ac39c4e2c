"""A transformation defence f(g(x)) taken apart: f's gradients without g, and the image g(x), one draw at a time."""

from typing import Any

import torch
from torch import Tensor

from attacks.base import Rows
from attacks.oracles.gradients import Exact
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.victim import Victim, padded


class Moved(Exact):
    """Losses, gradients and logits are those of f alone. Raises BenchError for a defence that makes no image."""

    def __init__(self, victim: Victim) -> None:
        self.victim = victim
        if not hasattr(victim.defense, "moved"):
            raise BenchError(f"{type(victim.defense).__name__} moves no image; set defense=transformation")
        apart: Any = victim.defense
        self._forward, self._moved = (lambda x, draw: apart.model(x)), apart.moved

    @torch.no_grad()
    def moved(self, x: Tensor, rows: Rows, nth: int) -> Tensor:
        """x (B,C,H,W) in [0, 1] -> g(x) (B,C,H,W) at the nth draw, maybe outside [0, 1]."""
        draw = Draw(self.victim.seed, rows.sample, torch.full_like(rows.sample, nth), Stream.EOT)
        calls = padded(len(x), self.victim.rows, x.device)
        return torch.cat([self._moved(x[call.rows], draw.rows(call.rows), "exact")[: call.size] for call in calls])

    def mean(self, x: Tensor, rows: Rows, samples: int) -> Tensor:
        """(B,C,H,W): E g(x) over so many draws."""
        total = torch.zeros_like(x)
        for nth in range(samples):
            total += self.moved(x, rows, nth)
        return total / samples
