"""Gradient regularisation, the unified form of "Improving Resistance to Adversarial Deformations by Regularizing Gradients"
(equation 18): cross-entropy + lam * mean_i ||d l_i / d n_i||^2 for images modified by tau(x, n), taken where tau does nothing.

IGR is tau = additive, FGR tau = flow, FGR+RS a gradient taken at a random n instead of 0 (equation 16). l_i is one image's loss,
so lam does not depend on the batch size; the paper differentiates the mean over a batch of B, which makes its lambda worth
lambda / B^2. With batch norm in train mode the other images' losses depend on n_i as well; their share is in the gradient here
as it is in the paper's.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError, nearest
from bench.core.warp import affine_flow, places, slopes, slopes_at_rest, warp
from defenses.recipes.adversarial import pgd, share, statistics_kept
from defenses.training.double_backward import cheap_twice


class Modification(NamedTuple):
    zero: Tensor  # (B, ...) the n at which nothing happens
    apply: Callable[[Tensor, Tensor], Tensor]  # tau: x (B,C,H,W), n -> (B,C,H,W)
    pull: Callable[[Tensor, Tensor, Tensor], Tensor]  # x, n, the gradient by tau(x, n) -> the gradient by n: J^T grad


def loss(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    modification: str,
    lam: float,
    sigma: float,
    squared: bool,
    ce_on_warped: bool,
    patch_side: int,
    attack: Mapping[str, Any] | None,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    """x (B,C,H,W) in [0, 1], y (B,) -> the loss and the logits (B,K) of the images that the cross-entropy is taken on.

    sigma: standard deviation of the random n, in n's own units (pixels for flow and affine, brightness for the others).
    ce_on_warped: modify x by the random n first and take both terms there, the gradient at a fresh n = 0, as the authors' code
    does; their paper leaves the cross-entropy on x. squared: false takes the length itself (their equation 5). attack: PGD's
    {eps, steps, step, random_start}; then the cross-entropy is taken on its images and the penalty on the clean ones.
    """
    _check(model, lam, sigma)
    tau = _modification(modification, x, patch_side)
    n = tau.zero + sigma * torch.randn_like(tau.zero) if sigma else tau.zero
    if ce_on_warped:
        x, n = tau.apply(x, n).clamp(0, 1), tau.zero
    modified = (tau.apply(x, n) if n is not tau.zero else x).detach().requires_grad_(lam > 0)
    if attack is None and n is tau.zero:  # one pass serves both terms
        with cheap_twice(model):
            logits = model(modified)
        each = F.cross_entropy(logits.float(), y, reduction="none", label_smoothing=label_smoothing)
        return each.mean() + (lam * _penalty(each.sum(), modified, x, n, tau, squared) if lam else 0), logits
    logits = model(x if attack is None else _attacked(model, x, y, **attack))
    value = F.cross_entropy(logits.float(), y, label_smoothing=label_smoothing)
    if not lam:
        return value, logits
    with (
        statistics_kept(model),
        cheap_twice(model),
    ):  # batch norm's running statistics are of the images in the cross-entropy
        answer = model(modified).float()
    total = F.cross_entropy(answer, y, reduction="sum", label_smoothing=label_smoothing)
    return value + lam * _penalty(total, modified, x, n, tau, squared), logits


def _penalty(total: Tensor, modified: Tensor, x: Tensor, n: Tensor, tau: Modification, squared: bool) -> Tensor:
    """The mean over i of ||d total / d n_i||^2, or of the length itself; total: the sum of the images' losses. tau's part of the
    chain rule holds no parameter, so it needs no second derivative and is written out."""
    (grad,) = torch.autograd.grad(total, modified, create_graph=True)
    size = tau.pull(x, n, grad.float()).square().flatten(1).sum(1)
    return size.mean() if squared else (size + 1e-20).sqrt().mean()  # the root has no slope at 0


def _modification(name: str, x: Tensor, side: int) -> Modification:
    if name not in MODIFICATIONS:
        raise BenchError(f"recipe.loss.modification={name} is unknown{nearest(name, MODIFICATIONS)}")
    return MODIFICATIONS[name](x, side)


def _additive(x: Tensor, side: int) -> Modification:
    return Modification(torch.zeros_like(x), torch.add, lambda x, n, grad: grad)


def _multiplicative(x: Tensor, side: int) -> Modification:
    """The paper's x n, with n counted from 1."""
    return Modification(torch.zeros_like(x), lambda x, n: x + x * n, lambda x, n, grad: x * grad)


def _patch(x: Tensor, side: int) -> Modification:
    """x + m n with m a square at a random place, one an image."""
    if not 1 <= side <= min(x.shape[2:]):
        raise BenchError(f"recipe.loss.patch_side={side} must lie between 1 and the image's {min(x.shape[2:])} pixels")

    def inside(size: int) -> Tensor:
        first = torch.randint(size - side + 1, (len(x), 1), device=x.device)
        place = torch.arange(size, device=x.device)
        return (place >= first) & (place < first + side)  # (B, size)

    mask = (inside(x.shape[2])[:, None, :, None] & inside(x.shape[3])[:, None, None, :]).to(x.dtype)
    return Modification(torch.zeros_like(x), lambda x, n: x + mask * n, lambda x, n, grad: mask * grad)


def _flow(x: Tensor, side: int) -> Modification:
    zero = x.new_zeros(len(x), *x.shape[2:], 2)

    def pull(x: Tensor, n: Tensor, grad: Tensor) -> Tensor:
        slope = slopes_at_rest(x) if n is zero else slopes(x, n)
        return (grad[..., None] * slope).sum(1)

    return Modification(zero, warp, pull)


def _affine(x: Tensor, side: int) -> Modification:
    height, width = x.shape[2:]

    def pull(x: Tensor, n: Tensor, grad: Tensor) -> Tensor:
        by_flow = (grad[..., None] * slopes(x, affine_flow(n, height, width))).sum(1)
        return torch.einsum("bhwd,hwk->bdk", by_flow, places(height, width, x))

    return Modification(x.new_zeros(len(x), 2, 3), lambda x, n: warp(x, affine_flow(n, height, width)), pull)


MODIFICATIONS = {
    "additive": _additive,
    "multiplicative": _multiplicative,
    "patch": _patch,
    "flow": _flow,
    "affine": _affine,
}


def _attacked(model: nn.Module, x: Tensor, y: Tensor, *, eps: str, steps: int, step: str, random_start: bool) -> Tensor:
    with statistics_kept(model):
        return pgd(model, x, y, share("attack.eps", eps), steps, share("attack.step", step), random_start)


def _check(model: nn.Module, lam: float, sigma: float) -> None:
    for name, value in (("lam", lam), ("sigma", sigma)):
        if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
            raise BenchError(f"recipe.loss.{name}={value} must be a number of at least 0")
    if hasattr(model, "_orig_mod"):
        raise BenchError(
            "recipe.compile=true: a gradient penalty differentiates twice, torch.compile can't; set recipe.compile=false"
        )
