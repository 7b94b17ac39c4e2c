"""What a score attack minimises: logits (B,K), y (B,), target (B,) -> (B,). target -1 means untargeted."""

import torch
from torch import Tensor

from bench.core.errors import BenchError


def margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Untargeted: z_y - max of the others; targeted: max of the others - z_target. Negative: the attack has succeeded."""
    targeted = target >= 0
    aim = torch.where(targeted, target, y)[:, None]
    own = logits.gather(1, aim)[:, 0]
    others = logits.scatter(1, aim, -torch.inf).amax(1)
    return torch.where(targeted, others - own, own - others)


def cross_entropy(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Untargeted: log p_y; targeted: -log p_target. By the gap to the other classes, so that a p near 1 keeps its digits:
    float32's log_softmax makes 0 of log(1 - 1e-8), and an attack would see no difference between two confident answers.
    """
    aim = torch.where(target >= 0, target, y)
    others = logits.scatter(1, aim[:, None], -torch.inf).logsumexp(1)
    gap = (others - logits.gather(1, aim[:, None])[:, 0]).double()
    # minus log p; log1p's bits depend on the batch shape
    surprise = (gap.clamp_min(0) + torch.log(1 + torch.exp(-gap.abs()))).to(logits.dtype)
    return torch.where(target >= 0, surprise, -surprise)


def dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """The margin over the spread of the largest logits, so that a common scale cancels (Croce and Hein 2020, equations 3 and 6).
    Needs 3 classes, and 4 where targeted."""
    ordered = logits.sort(1, descending=True).values
    third = ordered[:, 2]
    fourth = ordered[:, 3] if logits.shape[1] > 3 else third
    own = logits.gather(1, y[:, None])[:, 0]
    aim = logits.gather(1, target.clamp_min(0)[:, None])[:, 0]
    targeted = (own - aim) / (ordered[:, 0] - (third + fourth) / 2).clamp_min(1e-12)
    return torch.where(target >= 0, targeted, margin(logits, y, target) / (ordered[:, 0] - third).clamp_min(1e-12))


def check_classes(loss: str, classes: int, targeted: bool) -> None:
    """Raises BenchError where the loss divides by a spread that so few classes don't have."""
    least = 4 if targeted else 3
    if loss == "dlr" and classes < least:
        raise BenchError(
            f"attack.loss=dlr needs {least} classes{' where targeted' if targeted else ''}, the data set has {classes}; set "
            "attack.loss=margin"
        )


LOSSES = {"margin": margin, "cross_entropy": cross_entropy, "dlr": dlr}
