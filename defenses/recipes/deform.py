"""Adversarial training on deformations: the cross-entropy of images moved by a flow that PGD found, linf-bounded in pixels.

The fair baseline of flow gradient regularisation (its sheet, ambiguity 8); the paper's own AT rows are additive.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.core.warp import warp
from defenses.recipes.adversarial import statistics_kept


def loss(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    steps: int,
    step: float,
    random_start: bool,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    """x (B,C,H,W) in [0, 1]; eps and step in pixels -> the mean loss and the logits on the moved images."""
    if not 0 < eps < min(x.shape[2:]) or step <= 0 or steps < 1:
        raise BenchError(
            f"recipe.loss.eps={eps} must lie between 0 and the image's {min(x.shape[2:])} pixels, recipe.loss.step={step} be "
            f"positive, recipe.loss.steps={steps} be at least 1"
        )
    with statistics_kept(model):
        moved = flow_pgd(model, x, y, eps, steps, step, random_start)
    logits = model(moved)
    return F.cross_entropy(logits.float(), y, label_smoothing=label_smoothing), logits


def flow_pgd(model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, step: float, random_start: bool) -> Tensor:
    flow = x.new_zeros(len(x), *x.shape[2:], 2)
    if random_start:
        flow.uniform_(-eps, eps)
    for _ in range(steps):
        leaf = flow.requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(warp(x, leaf)).float(), y), leaf)
        flow = (flow.detach() + step * slope.sign()).clamp(-eps, eps)
    return warp(x, flow)
