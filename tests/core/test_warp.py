"""Bilinear sampling: against torch's grid_sample, against finite differences, exact where nothing moves."""

import pytest
import torch
from torch.nn import functional as F

from bench.core.warp import affine_flow, normalised, places, slopes, slopes_at_rest, warp

SHAPES = [(3, 1, 8, 8), (2, 3, 7, 11)]


def image(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def flow(shape: tuple[int, ...], size: float, dtype: torch.dtype = torch.float32, seed: int = 1) -> torch.Tensor:
    draw = torch.randn(shape[0], *shape[2:], 2, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return size * draw


def theirs(x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """grid_sample at the same places, in its units of half an image."""
    height, width = x.shape[2:]
    place = places(height, width, x)[..., :2] + v * 2 / torch.tensor([width - 1, height - 1], dtype=x.dtype)
    return F.grid_sample(x, place, mode="bilinear", padding_mode="border", align_corners=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [0.3, 3.0])
def test_equals_grid_sample_and_its_derivatives(shape: tuple[int, ...], size: float) -> None:
    found = []
    for sample in (warp, theirs):
        x, v = image(shape).requires_grad_(), flow(shape, size).requires_grad_()
        moved = sample(x, v)
        weights = image(shape, seed=2)
        found.append((moved, *torch.autograd.grad((moved * weights).sum(), (x, v))))
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-5, rtol=0)
    assert found[0][0].min() >= 0 and found[0][0].max() <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_no_flow_is_the_image_bit_for_bit_and_derives_to_the_right_and_down(shape: tuple[int, ...]) -> None:
    x, v = image(shape).round(decimals=1), torch.zeros(shape[0], *shape[2:], 2, requires_grad=True)
    x = torch.where(x < 0.4, 0.0, torch.where(x > 0.7, 1.0, x))  # black and white have slopes too
    moved = warp(x, v)
    assert torch.equal(moved, x)
    h = 1e-4
    for axis in (0, 1):
        step = torch.zeros_like(v)
        step[..., axis] = h
        ahead = (warp(x.double(), step.double()) - x.double()) / h  # the one-sided difference
        (slope,) = torch.autograd.grad(moved.sum(), v, retain_graph=True)
        torch.testing.assert_close(slope[..., axis].double(), ahead.sum(1), atol=1e-5, rtol=0)
    assert torch.equal(slopes(x, v), slopes_at_rest(x))


@pytest.mark.parametrize("shape", SHAPES)
def test_whole_pixels_shift_and_the_edge_goes_on(shape: tuple[int, ...]) -> None:
    x = image(shape)
    v = torch.zeros(shape[0], *shape[2:], 2)
    v[..., 0], v[..., 1] = 2, -1
    slow = torch.empty_like(x)
    for row in range(shape[2]):
        for column in range(shape[3]):
            slow[:, :, row, column] = x[:, :, max(row - 1, 0), min(column + 2, shape[3] - 1)]
    assert torch.equal(warp(x, v), slow)


def test_nothing_rounds_out_of_the_unit_interval() -> None:
    """Neighbours that are 0, 1 and their nearest floats, shares of all sizes: clamping would cost black and white their slope."""
    edge = torch.tensor([0.0, 1.0, 1 - 2**-24, 2**-24, 2**-25, 1e-10, 3e-8, 0.5, 1 / 3])
    pick = torch.randint(len(edge), (64, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    for size in (1e-8, 1e-3, 1.0):
        moved = warp(edge[pick], flow((64, 1, 16, 16), size))
        assert moved.min() >= 0 and moved.max() <= 1


def test_is_differentiable_twice_in_image_and_flow() -> None:
    shape = (2, 2, 4, 5)
    x = image(shape, torch.float64).requires_grad_()
    v = (
        0.25 + 0.2 * flow(shape, 1.0, torch.float64).tanh()
    ).requires_grad_()  # away from whole pixels, where it has kinks
    assert torch.autograd.gradcheck(warp, (x, v))
    assert torch.autograd.gradgradcheck(warp, (x, v))


@pytest.mark.parametrize("size", [0.0, 0.4, 5.0])
def test_slopes_are_the_chain_rule(size: float) -> None:
    shape = (3, 2, 6, 7)
    x, v, grad = image(shape), flow(shape, size).requires_grad_(), image(shape, seed=3)
    (exact,) = torch.autograd.grad(warp(x, v), v, grad)
    torch.testing.assert_close((grad[..., None] * slopes(x, v)).sum(1), exact, atol=1e-6, rtol=1e-5)


def test_affine_flow_is_in_pixels() -> None:
    n = torch.zeros(1, 2, 3)
    n[0, 0, 2] = 1.5
    assert torch.equal(affine_flow(n, 4, 6)[0, ..., 0], torch.full((4, 6), 1.5))
    n = torch.zeros(1, 2, 3)
    n[0, 1, 0] = 2.0  # moves the left border up and the right one down by 2
    moved = affine_flow(n, 4, 6)[0]
    assert moved[:, 0, 1].unique().tolist() == [-2.0] and moved[:, -1, 1].unique().tolist() == [2.0]
    assert not moved[..., 0].any()
    assert normalised(0.01, 32) == pytest.approx(0.155)
