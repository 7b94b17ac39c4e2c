"""Several networks as one, for images that fool all of them (Liu et al. 2017, section 3.2.1; Dong et al. 2018, section 3.3).

The members' logits are averaged, or their margins, each clipped where its member is fooled already, so that the steps go to those
that are robust so far. `Ensemble` averages their losses, which the disjoint paper calls not very effective.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from attacks.base import Evaluation, Oracle, Rows
from attacks.losses import margin
from attacks.oracles.gradients import known

SURE = 1.0  # a margin at which a member counts as fooled for good


class Fused:
    """by: `logits`, or `margins` (whatever loss the attack names)."""

    def __init__(self, members: Sequence[Oracle], by: Literal["logits", "margins"]) -> None:
        self.members, self.by = members, by

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            each = torch.stack([member.forward(leaf, rows) for member in self.members])
            logits = each.mean(0)
            if self.by == "logits":
                value = known(loss)(logits, rows.y, rows.target)
            else:
                value = torch.stack([margin(one, rows.y, rows.target).clamp_min(-SURE) for one in each]).mean(0)
            (grad,) = torch.autograd.grad(value.sum(), leaf)
        parts = (value.detach(), grad, logits.detach())
        return Evaluation(*(torch.where(live.view(-1, *[1] * (part.ndim - 1)), part, 0.0) for part in parts))

    def logits(self, x: Tensor, rows: Rows, live: Tensor) -> Tensor:
        return torch.stack([member.logits(x, rows, live) for member in self.members]).mean(0)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        return torch.stack([member.forward(x, rows) for member in self.members]).mean(0)
