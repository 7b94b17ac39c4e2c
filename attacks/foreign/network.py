"""What another library's attack gets instead of a network: the oracle, metered, with a budget as a hard stop."""

import torch
from torch import Tensor, nn

from attacks import norms
from attacks.base import Oracle, Rows
from bench.core.errors import BenchError
from bench.core.threat import Threat


class BudgetSpent(Exception):
    """Thrown through the library where an image's passes are used up; what was found until then counts."""


class Metered(nn.Module):
    """x (B,C,H,W) -> logits (B,K), by way of the oracle. Row i of a call borrows the number of image i (modulo the chunk), for a
    random defence's draws and the ledger, which is exact in sum. `in_order`: every call so far had the whole chunk, each row
    nearer to its own original than to any other's, so that it is exact per sample, too.

    It remembers each image's fooling query nearest to the original inside the ball: what is left when the budget ends the attack.
    """

    def __init__(self, oracle: Oracle, x: Tensor, rows: Rows, threat: Threat, passes: int | None) -> None:
        super().__init__()
        self.oracle, self.x, self.rows, self.threat, self.passes = oracle, x, rows, threat, passes
        self.sent, self.in_order, self.classes = 0, True, 0
        self.best = x.clone()
        self.distance = torch.full((len(x),), torch.inf, device=x.device)

    def forward(self, x: Tensor) -> Tensor:
        if not len(x):
            return x.new_zeros(0, self.classes)
        if self.passes is not None and self.sent + len(x) > self.passes * len(self.x):
            raise BudgetSpent
        self.sent += len(x)
        place = torch.arange(len(x), device=x.device) % len(self.x)
        x = x.float()
        legal = x + (x.clamp(0, 1) - x).detach()  # clamp's own derivative is 0 at 0 and 1
        logits = self.oracle.forward(legal, Rows(*(column[place] for column in self.rows)))
        if not torch.isfinite(logits).all():
            raise BenchError(
                "the victim answered NaN or inf logits to another library's attack; finished samples are kept"
            )
        self.classes = logits.shape[1]
        self.in_order = self.in_order and self._canary(x.detach())
        if self.in_order:
            self._remember(legal.detach(), logits.detach())
        return logits

    def _canary(self, x: Tensor) -> bool:
        if len(x) != len(self.x):
            return False
        nearest = torch.cdist(x.flatten(1), self.x.flatten(1)).argmin(1)
        return torch.equal(nearest, torch.arange(len(x), device=x.device))

    def _remember(self, x: Tensor, logits: Tensor) -> None:
        y, target = self.rows.y, self.rows.target
        label = logits.argmax(1)
        fools = torch.where(target >= 0, label == target, label != y)
        near = norms.project(self.x, x, self.threat.norm, self.threat.radius)
        length = (x - self.x).flatten(1).norm(dim=1)
        better = fools & ((near - x).flatten(1).abs().amax(1) < 1e-6) & (length < self.distance)
        self.distance = torch.where(better, length, self.distance)
        self.best = torch.where(better.view(-1, 1, 1, 1), x, self.best)
