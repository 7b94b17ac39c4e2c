"""TRADES (Zhang et al. 2019, equation 5 and algorithm 1): cross-entropy on clean images plus beta times the divergence of the
answers to the worst image nearby from those to the clean one. The inner images are made on that divergence, in evaluation
mode, from a start that is normal and a thousandth wide; the authors take beta 6, 10 steps of 0.007 in linf 0.031."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from defenses.recipes.adversarial import share

START = 1e-3


def loss(
    model: nn.Module, x: Tensor, y: Tensor, *, eps: str, steps: int, step: str, beta: float, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """x (B,C,H,W) in [0, 1]; eps and step as fractions of 1 -> the mean loss and the logits on the clean images. Raises
    BenchError for settings outside their range."""
    if beta <= 0 or steps < 1:
        raise BenchError(f"recipe.loss.beta={beta} must be positive, recipe.loss.steps={steps} at least 1")
    worst = farthest(model, x, share("eps", eps), steps, share("step", step))
    logits = model(x).float()
    value = F.cross_entropy(logits, y, label_smoothing=label_smoothing)
    return value + beta * divergence(logits, model(worst).float()), logits


def divergence(clean: Tensor, moved: Tensor) -> Tensor:
    """(B,K) logits each -> the mean over rows of KL(softmax(clean) || softmax(moved))."""
    return F.kl_div(F.log_softmax(moved, 1), F.softmax(clean, 1), reduction="batchmean")


def farthest(model: nn.Module, x: Tensor, eps: float, steps: int, step: float) -> Tensor:
    """(B,C,H,W) in [0, 1] within eps of x, by sign ascent on the divergence."""
    training = model.training
    model.eval()
    with torch.no_grad():
        clean = model(x).float()
    current = x + START * torch.randn_like(x)
    for _ in range(steps):
        leaf = current.detach().requires_grad_()
        (slope,) = torch.autograd.grad(divergence(clean, model(leaf).float()), leaf)
        current = (leaf.detach() + step * slope.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    model.train(training)
    return current.detach()
