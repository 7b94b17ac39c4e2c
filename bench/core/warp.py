"""Images moved by a flow: output pixel p shows the image at p + v(p), mixed from its 4 neighbours (Xiao et al. 2018, equation 1).

Ours and not torch's grid_sample, for four reasons: it is differentiable twice in image and flow (gradient regularisation needs
that), its units are pixels, v = 0 gives the image back bit for bit, and there the derivative is the difference to the right and
lower neighbour, where grid_sample picks a neighbour by the rounding of its coordinates.
"""

import torch
from torch import Tensor


def warp(x: Tensor, v: Tensor) -> Tensor:
    """x (B,C,H,W) in [0, 1], v (B,H,W,2) in pixels, (right, down) -> (B,C,H,W) in [0, 1]. Outside the image its edge goes on."""
    (upper_left, upper_right, lower_left, lower_right), (across, down), _ = _neighbours(x, v)
    above, below = _mix(upper_left, upper_right, across), _mix(lower_left, lower_right, across)
    return _mix(
        above, below, down
    )  # no clamp: rounding is monotone, so a mix stays in [0, 1], and clamp has no slope at 0 and 1


def slopes(x: Tensor, v: Tensor) -> Tensor:
    """(B,C,H,W,2): each pixel's derivative by its own place, what autograd finds in `warp`, without a graph. A pixel of the
    result depends on its own v alone, so the gradient by v of any loss is (grad_x[..., None] * slopes).sum(1)."""
    with torch.no_grad():
        (upper_left, upper_right, lower_left, lower_right), (across, down), (in_row, in_column) = _neighbours(x, v)
        right = _mix(upper_right - upper_left, lower_right - lower_left, down)
        below = _mix(lower_left - upper_left, lower_right - upper_right, across)
        return torch.stack([right * in_row[:, None], below * in_column[:, None]], dim=-1)


def slopes_at_rest(x: Tensor) -> Tensor:
    """`slopes` at v = 0, the differences to the right and lower neighbour, 0 beyond the edge."""
    return torch.stack([x.diff(dim=3, append=x[..., -1:]), x.diff(dim=2, append=x[:, :, -1:])], dim=-1)


Pair = tuple[Tensor, Tensor]


def _neighbours(x: Tensor, v: Tensor) -> tuple[list[Tensor], Pair, Pair]:
    """The four (B,C,H,W) around each moved place; how far it lies from the left and the upper ones; is it inside the image?
    The pairs are (B,H,W) each, the horizontal one first."""
    height, width = x.shape[2:]
    rows, columns = torch.arange(height, device=x.device)[:, None], torch.arange(width, device=x.device)
    left, right, across, in_row = _between(v[..., 0], columns, width)
    upper, lower, down, in_column = _between(v[..., 1], rows, height)
    flat, found = x.flatten(2), []
    for row in (upper, lower):
        for column in (left, right):
            index = (row * width + column).flatten(1)[:, None].expand(-1, x.shape[1], -1)
            found.append(flat.gather(2, index).view_as(x))
    return found, (across, down), (in_row, in_column)


def _between(v: Tensor, place: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One axis: the two neighbours' indices, the second one's share, and is the place inside? Each (B,H,W). Whole pixels and
    shares are kept apart, so a share has all its digits wherever the pixel lies."""
    low, high = -place, size - 1 - place
    inside = (v >= low) & (v <= high)
    v = torch.where(inside, v, v.detach().clamp(low, high))  # clamp alone would halve the derivative on the border
    whole = v.detach().floor()
    first = place + whole.long()
    return first, (first + 1).clamp(max=size - 1), v - whole, inside


def _mix(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    return first + share[:, None] * (second - first)  # share = 0: the first, exactly


def affine_flow(n: Tensor, height: int, width: int) -> Tensor:
    """n (B,2,3) -> (B,H,W,2): v = n (a, b, 1), with a, b in [-1, 1] from the left and upper edge to the right and lower one. So
    all six numbers are pixels: how far n moves a border or, in the last column, everything."""
    return torch.einsum("hwk,bdk->bhwd", places(height, width, n), n)


def places(height: int, width: int, like: Tensor) -> Tensor:
    """(H,W,3): each pixel's (a, b, 1)."""
    a = torch.linspace(-1, 1, width, device=like.device, dtype=like.dtype).expand(height, width)
    b = torch.linspace(-1, 1, height, device=like.device, dtype=like.dtype)[:, None].expand(height, width)
    return torch.stack([a, b, torch.ones_like(a)], dim=-1)


def normalised(eps: float, width: int) -> float:
    """A length in the FGR authors' units, in which an image's outer pixels are 2 apart -> pixels."""
    return eps * (width - 1) / 2
