"""The image that a transformation defence makes of x before its network sees it, one draw at a time."""

from typing import Any

import torch
from torch import Tensor

from attacks.base import Rows
from attacks.oracles.gradients import Bpda
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.victim import Victim, padded


class Moved(Bpda):
    """As attack/oracle=bpda, and g(x) itself. Raises BenchError for a defence that makes no image."""

    def __init__(self, victim: Victim, kind: str = "identity") -> None:
        super().__init__(victim, kind)
        if not hasattr(victim.defense, "moved"):
            raise BenchError(f"{type(victim.defense).__name__} moves no image; set defense=transformation")
        self._defense: Any = victim.defense

    @torch.no_grad()
    def moved(self, x: Tensor, rows: Rows, nth: int) -> Tensor:
        """x (B,C,H,W) in [0, 1] -> g(x) (B,C,H,W) at the nth draw, maybe outside [0, 1]."""
        draw, made = (
            Draw(self.victim.seed, rows.sample, torch.full_like(rows.sample, nth), Stream.EOT),
            self._defense.moved,
        )
        calls = padded(len(x), self.victim.rows, x.device)
        return torch.cat([made(x[call.rows], draw.rows(call.rows), "exact")[: call.size] for call in calls])
