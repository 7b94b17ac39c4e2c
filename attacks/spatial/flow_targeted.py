"""Targeted descents on a flow: one to each of the likeliest other classes, the best end kept (MultiTargeted, Gowal et al. 2019,
algorithm 1, on the flow of `attacks/spatial/flow_pgd.py`).

The FGR paper attacks by cross-entropy from v = 0 alone. One descent on a loss follows whichever class is nearest at the moment;
each of these keeps to its class, from its own random flow. A row ends with the flow of lowest margin, by the oracle's (averaged)
logits: it fits random victims.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks import norms
from attacks.base import Found, Lowest, MakeOracle, Oracle, Rows
from attacks.losses import margin
from attacks.spatial.flow_pgd import FlowPgd
from bench.core.errors import BenchError
from bench.core.rng import mix
from bench.core.threat import Threat
from bench.core.warp import warp


@dataclass(frozen=True)
class FlowTargeted:
    """threat.eps: in pixels. targets: how many other classes, the likeliest on the clean image first. steps, step (a share of
    eps), momentum: of each descent. random_start: every descent begins at a random flow of the ball, none at v = 0.

    Raises BenchError for norms other than flow_linf, for targeted goals and for settings that make no sense.
    """

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
        norms.check("targeted flow PGD", self.threat.norm, ("flow_linf",))
        if self.threat.goal != "untargeted":
            raise BenchError(
                f"threat.goal={self.threat.goal}: flow_targeted chooses its targets; set threat.goal=untargeted"
            )
        if self.targets < 1:
            raise BenchError(f"attack.targets={self.targets} must be at least 1")
        self._descent()  # its own settings are checked where they are used

    def check_classes(self, classes: int) -> None:
        if self.targets >= classes:
            raise BenchError(
                f"attack.targets={self.targets}, but there are {classes - 1} other classes; set it to that at most"
            )

    def _descent(self) -> FlowPgd:
        return FlowPgd(
            self.threat, self.steps, self.step, self.momentum, self.random_start, 1, "margin", early_stop=False
        )

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        flow, restart = self._search(oracle, x, rows)
        return Found(warp(x, flow), restart, flow)

    def flow(self, oracle: Oracle, x: Tensor, rows: Rows) -> Tensor:
        """(B,H,W,2) in pixels: what it moves each image by."""
        return self._search(oracle, x, rows)[0]

    def _search(self, oracle: Oracle, x: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        """-> the flow of each row and the target, counted from the likeliest, that it came from."""
        everyone = torch.ones_like(rows.y, dtype=torch.bool)
        logits = oracle.logits(x, rows, everyone).scatter(1, rows.y[:, None], -torch.inf)
        order = logits.argsort(dim=1, descending=True, stable=True)
        none = x.new_zeros(len(x), *x.shape[2:], 2)
        best = Lowest(none, torch.zeros_like(rows.y), torch.full_like(rows.y, torch.inf, dtype=x.dtype))
        for nth in range(self.targets):
            aimed = rows._replace(target=order[:, nth], key=mix(rows.key, rows.key * 0 + nth))
            end = self._descent().flow(oracle, x, aimed)
            best = best.or_lower(end, nth, margin(oracle.logits(warp(x, end), rows, everyone), rows.y, rows.target))
        return best.found, best.restart
