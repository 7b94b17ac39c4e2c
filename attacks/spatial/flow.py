"""What the attacks on a flow share: the chain rule through the sampler, its smoothness, and checks of the threat."""

import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.threat import Threat
from bench.core.warp import slopes


def pull(x: Tensor, v: Tensor, grad: Tensor) -> Tensor:
    """(B,H,W,2): the gradient by the flow v (B,H,W,2) from that by the moved image, (B,C,H,W)."""
    return (grad[..., None] * slopes(x, v)).sum(1)


def roughness(v: Tensor) -> tuple[Tensor, Tensor]:
    """L_flow (Xiao et al. 2018, equation 4) of v (B,H,W,2) -> (B,) and its gradient (B,H,W,2): the lengths of the differences
    between neighbours, summed over every pixel's 4 neighbours, so that each pair counts twice."""
    with torch.enable_grad():
        leaf = v.detach().requires_grad_()
        down, right = leaf.diff(dim=1).square().sum(-1), leaf.diff(dim=2).square().sum(-1)
        tiny = 1e-12  # the root has no slope at 0
        value = 2 * sum((each + tiny).sqrt().flatten(1).sum(1) for each in (down, right))
        assert isinstance(value, Tensor)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), slope


def check_bound(threat: Threat, x: Tensor) -> None:
    """Raises BenchError for a flow that leads across the whole image."""
    size = min(x.shape[2:])
    if threat.norm == "flow_linf" and threat.radius >= size:
        raise BenchError(
            f"threat.eps={threat.eps} moves pixels further than the image's {size}; a flow bound is in pixels, such as 1/2"
        )
