"""What a score attack minimises: logits (B,K), y (B,), target (B,) -> (B,). target -1 means untargeted."""

import torch
from torch import Tensor


def margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Untargeted: z_y - max of the others; targeted: max of the others - z_target. Negative: the attack has succeeded."""
    aim = torch.where(target >= 0, target, y)
    own = logits.gather(1, aim[:, None])[:, 0]
    others = logits.scatter(1, aim[:, None], -torch.inf).amax(1)
    return torch.where(target >= 0, others - own, own - others)


def cross_entropy(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Untargeted: log p_y; targeted: -log p_target. By the gap to the other classes, so that a p near 1 keeps its digits:
    float32's log_softmax makes 0 of log(1 - 1e-8), and an attack would see no difference between two confident answers.
    """
    aim = torch.where(target >= 0, target, y)
    others = logits.scatter(1, aim[:, None], -torch.inf).logsumexp(1)
    gap = (others - logits.gather(1, aim[:, None])[:, 0]).double()
    log_p = -(gap.clamp_min(0) + torch.log(1 + torch.exp(-gap.abs()))).to(
        logits.dtype
    )  # log1p's bits depend on the batch shape
    return torch.where(target >= 0, -log_p, log_p)


LOSSES = {"margin": margin, "cross_entropy": cross_entropy}
