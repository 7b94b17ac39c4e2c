"""Carlini and Wagner's l2 attack (2017, section V.A and VI): Adam on tanh-space images, binary search for the constant.

The objective is ||x' - x||^2 + c * max(margin + kappa, 0), per image: own constant, own Adam state, own early stop. The nearest
image that fools is returned, whatever threat.eps says; the cell counts it as a success inside the ball alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import norms
from attacks.base import Found, MakeOracle, Oracle, Rows
from attacks.gradient import binary_search
from attacks.gradient.binary_search import Best
from bench.core.errors import BenchError
from bench.core.rows import idle
from bench.core.threat import Threat

BETA_1, BETA_2, TINY = 0.9, 0.999, 1e-8  # Adam's own
LARGEST = 1e18  # of a slope whose square is still a float
SHRINK = 0.999999  # tanh space has no ends: 0 and 1 lie at infinity


@dataclass(frozen=True)
class Cw:
    """searches: binary search steps, steps: of Adam in each, c: the first constant, kappa: the margin that is asked for.
    abort_early: a row ends a search step whose objective no longer falls. inside: stop a row at its first image in the ball,
    for tables that ask for success alone. Raises BenchError for norms other than l2.
    """

    threat: Threat
    searches: int
    steps: int
    lr: float
    c: float
    kappa: float
    abort_early: bool
    inside: bool
    oracle: MakeOracle | None = None
    version: int = 1
    chunk = None

    def __post_init__(self) -> None:
        norms.check("C&W", self.threat.norm, ("l2",))
        if self.searches < 1 or self.steps < 1 or self.lr <= 0 or self.c <= 0 or self.kappa < 0:
            raise BenchError(
                f"attack.searches={self.searches}, attack.steps={self.steps} are at least 1, attack.lr={self.lr} and "
                f"attack.c={self.c} positive, attack.kappa={self.kappa} at least 0"
            )

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        return binary_search.search(
            lambda c, best, live: self._search(oracle, x, rows, c, best, live),
            x, rows, searches=self.searches, first=self.c, enough=self.threat.radius if self.inside else None,
            asked=self.kappa,
        )  # fmt: skip

    def _search(
        self, oracle: Oracle, x: Tensor, rows: Rows, c: Tensor, best: Best, live: Tensor
    ) -> tuple[Best, Tensor]:
        """Adam at one constant -> the best images, (B,) whether this constant fooled at all."""
        w = _to_tanh(x)
        center, m, v = _to_pixels(w), torch.zeros_like(w), torch.zeros_like(w)
        worked, checked = torch.zeros_like(live), torch.full_like(c, torch.inf)
        for t in range(1, self.steps + 1):
            image = _to_pixels(w)
            answer = oracle(image, rows, "margin", live)
            gap = (image - center).flatten(1)
            squared = gap.square().sum(1)
            hit = live & (answer.loss < -self.kappa)
            best = best.nearer(hit, live, squared.sqrt(), image, answer.loss)
            worked = worked | hit
            objective = squared + c * (answer.loss + self.kappa).clamp_min(0)
            if self.inside:
                live = live & (best.distance > self.threat.radius)
            if self.abort_early:
                live, checked = binary_search.abort(live, objective, checked, t, self.steps)
            if idle(live, t):
                break
            active = (answer.loss + self.kappa > 0).float()
            slope = 2 * gap.view_as(x) + (c * active).view(-1, 1, 1, 1) * answer.grad
            slope = (slope * (1 - w.tanh().square()) * (SHRINK / 2)).clamp(-LARGEST, LARGEST)
            m, v = BETA_1 * m + (1 - BETA_1) * slope, BETA_2 * v + (1 - BETA_2) * slope.square()
            step = self.lr * (m / (1 - BETA_1**t)) / ((v / (1 - BETA_2**t)).sqrt() + TINY)
            w = torch.where(live.view(-1, 1, 1, 1), w - step, w)
        return best, worked


def _to_tanh(x: Tensor) -> Tensor:
    return torch.atanh((2 * x - 1) * SHRINK)


def _to_pixels(w: Tensor) -> Tensor:
    return ((w.tanh() / SHRINK + 1) / 2).clamp(0, 1)
