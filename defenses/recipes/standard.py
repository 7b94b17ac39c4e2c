"""Plain training: cross-entropy on clean images with label smoothing (Szegedy et al. 2016, section 7)."""

from torch import Tensor, nn
from torch.nn import functional as F


def loss(model: nn.Module, x: Tensor, y: Tensor, *, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """x: (B, C, H, W) in [0, 1], y: (B,) -> the mean loss and the logits (B, K), for the training accuracy."""
    logits = model(x)
    return F.cross_entropy(logits.float(), y, label_smoothing=label_smoothing), logits
