"""What differs between linf, l2 and l1: random starts, steepest steps, projections, lengths. All per row, (B,C,H,W) -> (B,C,H,W).

Safe for gradients of any scale: a concealed gradient reaches 1e12, whose square overflows float32.
"""

import math

import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.rng import mix, normal, uniform

SPARSITY = 0.01  # share of coordinates that an l1 step moves (GCM sheet, section 5)
HALVINGS = 40  # of the l1 projection's bisection


def check(name: str, norm: str, allowed: tuple[str, ...]) -> None:
    """Raises BenchError for a norm that an attack doesn't have."""
    if norm not in allowed:
        raise BenchError(f"{name} has no threat.norm={norm}; use {' or '.join(allowed)}")


def length(delta: Tensor, norm: str) -> Tensor:
    """(B,) in float64."""
    flat = delta.flatten(1).double()
    return {"linf": lambda: flat.abs().amax(1), "l2": lambda: flat.norm(dim=1), "l1": lambda: flat.abs().sum(1)}[norm]()


def steepest(grad: Tensor, norm: str) -> Tensor:
    """The direction of unit length in which a linear function with this gradient rises fastest; l1: spread evenly over the
    largest 1% of the coordinates, as the single largest one would need too many steps. Zero where the gradient is zero.
    """
    if norm == "linf":
        return grad.sign()
    if norm == "l2":
        scaled = grad / _column(grad.abs().flatten(1).amax(1).clamp_min(1e-38))
        return scaled / _column(scaled.flatten(1).norm(dim=1).clamp_min(1e-12))
    flat = grad.flatten(1)
    count = max(1, math.ceil(SPARSITY * flat.shape[1]))
    place = flat.abs().topk(count, dim=1).indices
    return torch.zeros_like(flat).scatter(1, place, flat.gather(1, place).sign() / count).view_as(grad)


def free(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient without the coordinates that a rise along it would push out of [0, 1]; an l1 step spends none of its length
    on them."""
    stuck = ((x <= 0) & (grad < 0)) | ((x >= 1) & (grad > 0))
    return grad.masked_fill(stuck, 0.0)


def project(x: Tensor, x_adv: Tensor, norm: str, radius: float) -> Tensor:
    """The nearest point in the ball around x and in [0, 1] (l2: into the ball first, then into [0, 1], which stays inside)."""
    if norm == "linf":
        return x_adv.clamp(x - radius, x + radius).clamp(0, 1)
    if norm == "l2":
        delta = x_adv - x
        shrink = (radius / delta.flatten(1).norm(dim=1).clamp_min(1e-12)).clamp(max=1)
        return (x + delta * _column(shrink)).clamp(0, 1)
    return _project_l1(x, x_adv, radius)


def _project_l1(x: Tensor, x_adv: Tensor, radius: float) -> Tensor:
    """Onto the intersection of the l1 ball and the box at once: clip(soft_threshold(delta, t)), with the t at which the length is
    the radius (the KKT conditions; Croce and Hein 2021, proposition 3.1). Clipping after a projection onto the ball alone
    would give part of the radius away."""
    delta, low, high = (part.flatten(1) for part in (x_adv - x, -x, 1 - x))
    clipped = torch.minimum(torch.maximum(delta, low), high)
    out = clipped.abs().sum(1) > radius
    if out.any():
        some, a, b = delta[out], low[out], high[out]
        least = torch.zeros(len(some), device=x.device)
        most = some.abs().amax(1)
        for _ in range(HALVINGS):
            middle = (least + most) / 2
            over = _shrunk(some, a, b, middle).abs().sum(1) > radius
            least, most = torch.where(over, middle, least), torch.where(over, most, middle)
        clipped[out] = _shrunk(some, a, b, most)
    return (x + clipped.view_as(x)).clamp(0, 1)


def _shrunk(delta: Tensor, low: Tensor, high: Tensor, threshold: Tensor) -> Tensor:
    soft = delta.sign() * (delta.abs() - threshold[:, None]).clamp_min(0)
    return torch.minimum(torch.maximum(soft, low), high)


def random_point(key: Tensor, shape: tuple[int, ...], norm: str, radius: float) -> Tensor:
    """Uniform in the ball. l2 and l1: a direction (normal; signed exponential), and a length with density ~ r^(d-1)."""
    if norm == "linf":
        return (uniform(key, *shape) * 2 - 1) * radius
    d = math.prod(shape)
    share = uniform(mix(key, torch.ones_like(key)), 1)[:, 0] ** (1 / d)
    if norm == "l2":
        direction = normal(key, *shape)
        return direction * _column(radius * share / direction.flatten(1).norm(dim=1))
    part = uniform(key, *shape) * 2 - 1
    direction = part.sign() * -(1 - part.abs()).clamp_min(1e-7).log()
    return direction * _column(radius * share / direction.flatten(1).abs().sum(1))


def _column(row: Tensor) -> Tensor:
    return row.view(-1, 1, 1, 1)
