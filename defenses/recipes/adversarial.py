"""Adversarial training by PGD (Madry et al. 2018, equation 2.1), linf, on a mix of clean and adversarial images.

The examples are made on the network as it trains, noise and dropout active, but the crafting passes leave batch norm's running
statistics alone: they would be of images that are never trained on.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError


def loss(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: str,
    steps: int,
    step: str,
    random_start: bool,
    clean_weight: float,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    """x (B,C,H,W) in [0, 1]; eps and step as fractions of 1 -> the mean loss and the logits on the adversarial images."""
    if not 0 <= clean_weight <= 1 or steps < 1:
        raise BenchError(
            f"recipe.loss.clean_weight={clean_weight} must lie in [0, 1], recipe.loss.steps={steps} be at least 1"
        )
    ball, size = share("eps", eps), share("step", step)
    with statistics_kept(model):
        adversarial = pgd(model, x, y, ball, steps, size, random_start)
    logits = model(adversarial)
    value = F.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)
    if clean_weight:
        clean = F.cross_entropy(model(x).float(), y, label_smoothing=label_smoothing)
        value = (1 - clean_weight) * value + clean_weight * clean
    return value, logits


def share(name: str, value: str) -> float:
    """A fraction of the pixel scale [0, 1]. name: of the field below recipe.loss."""
    try:
        fraction = float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError):
        fraction = 0.0
    if not 0 < fraction <= 1:
        raise BenchError(f"recipe.loss.{name}={value} must be a fraction of 1 above 0, such as 8/255")
    return fraction


def pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, step: float, random_start: bool) -> Tensor:
    current = x + torch.empty_like(x).uniform_(-eps, eps) if random_start else x
    for _ in range(steps):
        leaf = current.clamp(0, 1).detach().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(leaf).float(), y), leaf)
        current = (leaf.detach() + step * slope.sign()).clamp(x - eps, x + eps)
    return current.clamp(0, 1).detach()


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
