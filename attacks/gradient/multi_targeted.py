"""MultiTargeted PGD (Gowal et al. 2019, algorithm 1): a descent towards each of the likeliest other classes, the best end kept.

One descent on the margin follows whichever class is nearest at the moment, and may be lost on a plateau; each of these keeps to
its class. Nothing stops early: of every row the end of lowest margin is kept, by the oracle's (averaged) logits: it fits
random victims.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import norms
from attacks.base import Found, Lowest, MakeOracle, Oracle, Rows
from attacks.gradient.pgd import Pgd
from attacks.losses import margin
from bench.core.errors import BenchError
from bench.core.rng import mix
from bench.core.threat import Threat


@dataclass(frozen=True)
class MultiTargeted:
    """targets: how many other classes, the likeliest on the clean image first. steps, step (a share of eps), momentum: of each
    descent. Raises BenchError for norms other than linf, l2, l1, for targeted goals and for settings that make no sense."""

    threat: Threat
    targets: int
    steps: int
    step: float
    momentum: float
    random_start: bool
    oracle: MakeOracle | None = None
    version: int = 1
    chunk = None

    def __post_init__(self) -> None:
        norms.check("MultiTargeted", self.threat.norm, ("linf", "l2", "l1"))
        if self.threat.goal != "untargeted":
            raise BenchError(
                f"threat.goal={self.threat.goal}: MultiTargeted chooses its targets; set threat.goal=untargeted"
            )
        if self.targets < 1:
            raise BenchError(f"attack.targets={self.targets} must be at least 1")
        self._descent()  # its own settings are checked where they are used

    def check_classes(self, classes: int) -> None:
        if self.targets >= classes:
            raise BenchError(
                f"attack.targets={self.targets}, but there are {classes - 1} other classes; set it to that at most"
            )

    def _descent(self) -> Pgd:
        return Pgd(self.threat, self.steps, self.step, self.momentum, self.random_start, 1, "margin", early_stop=False)

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        everyone = torch.ones_like(rows.y, dtype=torch.bool)
        logits = oracle.logits(x, rows, everyone).scatter(1, rows.y[:, None], -torch.inf)
        order = logits.argsort(dim=1, descending=True, stable=True)
        best = Lowest(x, torch.zeros_like(rows.y), torch.full_like(rows.y, torch.inf, dtype=x.dtype))
        for nth in range(self.targets):
            aimed = rows._replace(target=order[:, nth], key=mix(rows.key, rows.key * 0 + nth))
            end = self._descent()(oracle, x, aimed).image
            left = margin(oracle.logits(end, rows, everyone), rows.y, rows.target)
            best = best.or_lower(end, nth, left)
        return Found(best.found, best.restart)
