"""ADP ensembles (Pang et al. 2019, "Improving Adversarial Robustness via Promoting Ensemble Diversity", equations 3-6): members
that are right together and whose other classes differ.

Loss per image: sum over members of the cross-entropy - alpha H(mean prediction) - beta log det(M^T M), where M (K-1,n) holds each
member's prediction without the true class, at length 1. Deviations: SGD by the one loop (theirs: Adam).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.models.sets import ModelSet

LIFT = 1e-6  # on the diagonal, as in the authors' code: two equal members would have log 0


def loss(
    models: ModelSet, x: Tensor, y: Tensor, *, alpha: float, beta: float, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """x (B,C,H,W) in [0, 1], y (B,) -> the batch's mean loss and the logits (n,B,K).

    Raises BenchError for alpha or beta below 0, and for more members than there are other classes (the determinant would be 0).
    """
    for name, weight in (("alpha", alpha), ("beta", beta)):
        if not weight >= 0:
            raise BenchError(f"recipe.loss.{name}={weight} must be at least 0; 0 leaves that term out")
    logits = models(x)
    n, _, classes = logits.shape
    if n > classes - 1:
        raise BenchError(f"model.members={n}: ADP tells at most {classes - 1} members apart by {classes} classes")
    single = torch.stack([F.cross_entropy(each.float(), y, label_smoothing=label_smoothing) for each in logits]).sum()
    diverse = (alpha * entropy(logits.float()) + beta * log_volume(logits.float(), y)).mean()
    return single - diverse, logits


def entropy(logits: Tensor) -> Tensor:
    """(n,B,K) -> (B,) of the members' mean prediction, in nats."""
    mean = logits.softmax(-1).mean(0)
    return torch.special.entr(mean).sum(-1)


def log_volume(logits: Tensor, y: Tensor) -> Tensor:
    """(n,B,K), (B,) -> (B,) log det of the Gram matrix of the n non-maximal predictions at length 1.

    At length 1 a softmax over the other classes alone is the same vector, and stays one where the true class has all the mass.
    """
    others = torch.arange(logits.shape[2] - 1, device=y.device)
    others = (others + (others >= y[:, None])).expand(
        len(logits), -1, -1
    )  # a mask would have to be counted by the host
    rest = logits.gather(2, others).softmax(-1)
    units = F.normalize(rest, dim=-1).transpose(0, 1)  # (B,n,K-1)
    return torch.logdet(units @ units.mT + LIFT * torch.eye(len(logits), device=logits.device))
