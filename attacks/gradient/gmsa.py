"""GMSA: greedy model space attack on defences that adapt to the batch they are asked about (Chen et al. 2022, "Towards
Evaluating the Robustness of Neural Networks Learned by Transduction", algorithm 2).

In turn: let the defence adapt to the current adversarial batch and keep what it made; then PGD from the clean images against
all kept networks, their mean loss (AVG) or the one that stands best per image (MIN). The oracle says which.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attacks import norms
from attacks.base import Found, MakeOracle, Rows
from attacks.gradient.pgd import Pgd
from bench.core.errors import BenchError
from bench.core.success import fooled
from bench.core.threat import Threat


@dataclass(frozen=True)
class Gmsa:
    """rounds: networks that are kept in the end; steps, step, loss: of each round's PGD. An image that fools the defence itself
    in some round stays. Needs attack/oracle=adapted."""

    threat: Threat
    rounds: int
    steps: int
    step: float
    loss: str
    oracle: MakeOracle | None = None
    version: int = 1
    chunk = None

    def __post_init__(self) -> None:
        norms.check("GMSA", self.threat.norm, ("linf", "l2"))
        if self.rounds < 1:
            raise BenchError(f"attack.rounds={self.rounds} must be at least 1")

    def __call__(self, oracle: Any, x: Tensor, rows: Rows) -> Found:
        inner = getattr(oracle, "inner", oracle)
        if not hasattr(inner, "adapt"):
            raise BenchError("GMSA needs attack/oracle=adapted (its networks are those that the defence adapts)")
        pgd = Pgd(self.threat, self.steps, self.step, 0.0, True, 1, self.loss, early_stop=False)
        everyone = torch.ones_like(rows.y, dtype=torch.bool)
        image, standing, restart = x, everyone, torch.zeros_like(rows.y)
        current = x
        for nth in range(self.rounds):
            inner.adapt(current, anew=nth == 0)
            current = pgd(oracle, x, rows).image
            hit = fooled(oracle.logits(current, rows, everyone), rows.y, rows.target)
            image = torch.where(standing.view(-1, 1, 1, 1), current, image)
            restart = torch.where(standing, nth, restart)
            standing = standing & ~hit
        return Found(image, restart)
