"""EAD: elastic-net attacks (Chen et al. 2018, algorithm 1): ISTA with momentum on c * margin + ||d||_2^2 + beta * ||d||_1.

Of the images that fool the one of least elastic-net distance (rule EN) or least l1 distance (rule L1) is returned, whatever
threat.eps says; the cell counts it as a success inside the ball alone.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from attacks import norms
from attacks.base import Found, MakeOracle, Oracle, Rows
from attacks.gradient import binary_search
from attacks.gradient.binary_search import Best
from attacks.losses import margin
from bench.core.errors import BenchError
from bench.core.rows import idle
from bench.core.threat import Threat


@dataclass(frozen=True)
class Ead:
    """searches, steps, lr, c, kappa as in C&W; beta: the weight of the l1 part; rule: EN or L1.
    Raises BenchError for norms other than l1 and l2."""

    threat: Threat
    searches: int
    steps: int
    lr: float
    c: float
    kappa: float
    beta: float
    rule: Literal["EN", "L1"]
    abort_early: bool
    oracle: MakeOracle | None = None
    version: int = 1
    chunk = None

    def __post_init__(self) -> None:
        norms.check("EAD", self.threat.norm, ("l1", "l2"))
        if self.rule not in ("EN", "L1"):
            raise BenchError(f"attack.rule={self.rule}: it is EN or L1")
        if min(self.searches, self.steps) < 1 or min(self.lr, self.c) <= 0 or min(self.kappa, self.beta) < 0:
            raise BenchError(
                f"attack.searches={self.searches}, attack.steps={self.steps} are at least 1, attack.lr={self.lr} and "
                f"attack.c={self.c} positive, attack.kappa={self.kappa} and attack.beta={self.beta} at least 0"
            )

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        return binary_search.search(
            lambda c, best, live: self._search(oracle, x, rows, c, best, live),
            x, rows, searches=self.searches, first=self.c, asked=self.kappa,
        )  # fmt: skip

    def _search(
        self, oracle: Oracle, x: Tensor, rows: Rows, c: Tensor, best: Best, live: Tensor
    ) -> tuple[Best, Tensor]:
        image, ahead = x, x  # the iterate, and the point that momentum looks from
        worked, checked = torch.zeros_like(live), torch.full_like(c, torch.inf)
        for t in range(self.steps):
            answer = oracle(ahead, rows, "margin", live)
            active = (answer.loss + self.kappa > 0).float()
            slope = 2 * (ahead - x) + (c * active).view(-1, 1, 1, 1) * answer.grad
            lr = self.lr * (1 - t / self.steps) ** 0.5
            new = _shrink(x, ahead - lr * slope, self.beta)
            new = torch.where(live.view(-1, 1, 1, 1), new, image)
            ahead, image = (new + t / (t + 3) * (new - image)).clamp(0, 1), new
            loss = margin(oracle.logits(image, rows, live), rows.y, rows.target)
            hit = live & (loss < -self.kappa)
            distance = self._distance(x, image)
            best = best.nearer(hit, live, distance, image, loss)
            worked = worked | hit
            if self.abort_early:
                live, checked = binary_search.abort(
                    live, distance + c * (loss + self.kappa).clamp_min(0), checked, t + 1, self.steps
                )
                if idle(live, t):
                    break
        return best, worked

    def _distance(self, x: Tensor, image: Tensor) -> Tensor:
        gap = (image - x).flatten(1)
        absolute = gap.abs().sum(1)
        return absolute if self.rule == "L1" else self.beta * absolute + gap.square().sum(1)


def _shrink(x: Tensor, z: Tensor, beta: float) -> Tensor:
    """Equation 5: pixels that moved by more than beta move back by beta, the others all the way."""
    gap = z - x
    moved = (x + gap.sign() * (gap.abs() - beta)).clamp(0, 1)
    return torch.where(gap.abs() > beta, moved, x)
