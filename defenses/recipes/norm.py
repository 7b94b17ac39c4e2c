"""Batch norm whose input gradient is cheap to differentiate again: torch's own second derivative is a chain of some twenty passes
over the activations, which cost a disjoint step of 18 network passes another 3.

With x^ = (x - mean) s, s = 1 / sqrt(var + eps), P(g) = g - mean(g) - x^ mean(g x^) over a channel's N values:
  first       gx = w s P(gy)
  of u . gx   in gy: w s P(u);   in w: s Q;   in x: -s (mean(gy x^) w s P(u) + mean(u x^) gx + w s Q / N x^),   Q = u . P(gy)
P is what the native backward pass computes in one sweep, sums included. The same derivative, by other roundings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Within it, the model's batch norms in train mode have the cheap second derivative."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and m.training and m.affine and m.momentum]
    for norm in norms:
        norm.forward = partial(_forward, norm)  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _forward(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return _Norm.apply(x, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps)  # type: ignore[return-value]


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, b: Tensor, mean: Tensor, var: Tensor, momentum: float, eps: float
    ) -> Tensor:
        y, center, s = torch.native_batch_norm(x, w, b, mean, var, True, momentum, eps)
        ctx.save_for_backward(x, w, center, s)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, gy: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return *_First.apply(gy, *ctx.saved_tensors, ctx.eps), None, None, None, None  # type: ignore[misc]


class _First(torch.autograd.Function):
    """gy -> the gradients in x, w and b."""

    @staticmethod
    def forward(ctx: Any, gy: Tensor, x: Tensor, w: Tensor, center: Tensor, s: Tensor, eps: float) -> Any:
        gx, gw, gb = _native(gy, x, w, center, s, eps)
        ctx.save_for_backward(gy, x, w, center, s, gx, gw, gb)
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        return gx, gw, gb

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor, of_w: Tensor | None, of_b: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert of_w is None and of_b is None, "only the input gradient is differentiated again"
        gy, x, w, center, s, gx, gw, gb = ctx.saved_tensors
        n = x.numel() / x.shape[1]
        back, uw, ub = _native(u, x, w, center, s, ctx.eps)
        q = (u * gy).sum((0, 2, 3)) - (ub * gb + uw * gw) / n
        a, b, c = (-s * gw / n), (-s * uw / n), (-s * s * w * s * q / n)
        in_x = torch.addcmul(_wide(-c * center), x, _wide(c)).addcmul_(back, _wide(a)).addcmul_(gx, _wide(b))
        return back, in_x, s * q, None, None, None


def _native(gy: Tensor, x: Tensor, w: Tensor, center: Tensor, s: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.aten.native_batch_norm_backward(gy, x, w, None, None, center, s, True, eps, [True, True, True])


def _wide(channels: Tensor) -> Tensor:
    return channels.view(1, -1, 1, 1)
