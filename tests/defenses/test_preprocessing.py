"""Preprocessing defences: each change against other code, rows on their own, gradients, one-line refusals."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.victim import FixedRows, Ledger
from bench.models.split import Split
from defenses.bit_depth import BitDepth
from defenses.jpeg import Jpeg
from defenses.median import Median
from defenses.preprocessed import Preprocessed
from defenses.resize_pad import ResizePad
from defenses.smoothing import Smoothing

CPU = torch.device("cpu")


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def draw(n: int, nth: int = 0) -> Draw:
    number = torch.arange(n)
    return Draw(0, number, torch.full_like(number, nth), Stream.DEFENCE)


def smooth_images(n: int, channels: int, height: int, width: int) -> Tensor:
    """Images that a codec is made for: noise of a few pixels' width."""
    coarse = torch.rand(n, channels, height // 4 + 1, width // 4 + 1, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


def libjpeg(x: Tensor, quality: int) -> Tensor:
    """(C,H,W) through Pillow's codec."""
    levels, file = (x * 255).round().byte().permute(1, 2, 0).numpy(), BytesIO()
    Image.fromarray(levels.squeeze()).save(file, "JPEG", quality=quality)
    again = torch.from_numpy(np.asarray(Image.open(file)).copy()).float() / 255
    return again.view(*x.shape[1:], -1).permute(2, 0, 1)


def network() -> FixedRows:
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 12))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for each in features.modules():
            if isinstance(each, nn.Conv2d | nn.Linear):
                each.reset_parameters()
        head = nn.Linear(12, 5)
    return FixedRows(Split(features, head, (3, 8, 8)).requires_grad_(False), 16, torch.float32, Ledger(99, CPU))


MAKE: dict[str, Callable[[nn.Module], Preprocessed]] = {
    "jpeg": lambda model: Jpeg(model, 75),
    "bit_depth": lambda model: BitDepth(model, 3),
    "median": lambda model: Median(model, 3),
    "resize_pad": lambda model: ResizePad(model, 0.7),
}


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 20, 27), (1, 28, 28)])
def test_jpeg_is_libjpegs_but_for_its_chroma_filter(quality: int, shape: tuple[int, int, int]) -> None:
    """But for two things: libjpeg smooths chroma when it enlarges it (here it changes slowly), and its DCT is one of integers, so
    that a coefficient near the middle between two steps may go the other way."""
    grey, colour = smooth_images(8, 1, *shape[1:]), smooth_images(8, shape[0], shape[1] // 8, shape[2] // 8)
    tint = F.interpolate(colour, size=shape[1:], mode="bicubic") - 0.5 if shape[0] == 3 else 0.0
    x = ((0.25 + 0.5 * grey + 0.3 * tint).clamp(0, 1) * 255).round() / 255
    ours = Jpeg(Same(), quality).change(x, draw(8))
    theirs = torch.stack([libjpeg(each, quality) for each in x])
    off, lost = (ours - theirs).abs() * 255, (theirs - x).abs().mean() * 255
    assert lost > 0.3 and off.mean() < 0.25 * lost + (0.05 if shape[0] == 1 else 0.9)


def test_bit_depth_and_median_by_hand() -> None:
    x = torch.rand(4, 3, 9, 7, generator=torch.Generator().manual_seed(1))
    assert set((BitDepth(Same(), 2).change(x, draw(4)) * 3).unique().tolist()) == {0, 1, 2, 3}
    assert (BitDepth(Same(), 8).change(x, draw(4)) - x).abs().max() <= 0.5 / 255 + 1e-6
    for size in (3, 5):
        theirs = ndimage.median_filter(x.numpy(), size=(1, 1, size, size), mode="mirror")
        assert np.array_equal(Median(Same(), size).change(x, draw(4)).numpy(), theirs)


def test_resize_and_pad_is_interpolation_at_a_place() -> None:
    """Of every image, some side and place give torch's own interpolation, and zeros around it."""
    x = smooth_images(12, 3, 16, 16)
    changed = ResizePad(Same(), 0.7).change(x, draw(12))
    sides = set()
    for before, after in zip(x, changed, strict=True):
        rows, columns = (after.sum(0) > 0).nonzero(as_tuple=True)
        top, left, side = int(rows.min()), int(columns.min()), int(rows.max() - rows.min()) + 1
        assert side == int(columns.max() - columns.min()) + 1 and 12 <= side <= 16
        small = F.interpolate(before[None], size=(side, side), mode="bilinear", align_corners=False)[0]
        assert torch.allclose(after[:, top : top + side, left : left + side], small, atol=1e-5)
        sides.add(side)
    assert len(sides) > 2
    assert torch.allclose(ResizePad(Same(), 1.0).change(x, draw(12)), x, atol=1e-5)


@pytest.mark.parametrize("name", MAKE)
def test_rows_are_independent_and_draws_are_keyed(name: str) -> None:
    defence, x = MAKE[name](Same()), smooth_images(10, 3, 8, 8)
    whole = defence(x, draw(10))
    order = torch.randperm(10, generator=torch.Generator().manual_seed(2))
    assert torch.equal(defence(x[order], draw(10).rows(order)), whole[order])
    assert torch.equal(defence(x, draw(10, 1)), whole) != defence.traits.stochastic


@pytest.mark.parametrize("name", MAKE)
def test_bpda_has_the_defences_value_and_the_networks_gradient_at_the_changed_image(name: str) -> None:
    model, x = network(), smooth_images(6, 3, 8, 8)
    defence = MAKE[name](model)
    leaf = x.clone().requires_grad_()
    logits = defence.approximate(leaf, draw(6), "identity")
    assert torch.allclose(logits.detach(), defence(x, draw(6)), atol=1e-5)
    (ours,) = torch.autograd.grad(logits[:, 1].sum(), leaf)
    at = defence.change(x, draw(6)).detach().requires_grad_()
    (theirs,) = torch.autograd.grad(model(at)[:, 1].sum(), at)
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["median", "resize_pad"])
def test_a_declared_gradient_is_the_true_one(name: str) -> None:
    model = network()
    defence, x = MAKE[name](model), smooth_images(3, 3, 8, 8)
    leaf, step = x.clone().requires_grad_(), 1e-3
    (grad,) = torch.autograd.grad(defence(leaf, draw(3))[:, 0].sum(), leaf)
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).sign()
    with torch.no_grad():
        ends = [defence((x + sign * step * way), draw(3))[:, 0] for sign in (1, -1)]
    assert defence.traits.differentiable
    assert torch.allclose((ends[0] - ends[1]) / (2 * step), (grad * way).flatten(1).sum(1), rtol=0.1, atol=0.05)


def test_jpegs_smooth_way_back_goes_through_the_codec() -> None:
    """Flat blocks keep their level: the gradient of their mean is there, that of a fine checkerboard is gone."""
    model = network()
    defence = Jpeg(model, 10)
    x = torch.full((2, 3, 8, 8), 0.503).requires_grad_()
    logits = defence.approximate(x, draw(2), "smooth")
    assert torch.allclose(logits.detach(), defence(x.detach(), draw(2)), atol=1e-5)
    (grad,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert grad.isfinite().all()


def test_smoothing_votes() -> None:
    model, x = network(), smooth_images(6, 3, 8, 8)
    defence = Smoothing(model, 0.5, 40)
    logits = defence(x, draw(6))
    votes = logits.exp() * 45 - 1
    assert torch.allclose(votes.sum(1), torch.full((6,), 40.0), atol=1e-3) and torch.allclose(
        votes, votes.round(), atol=1e-3
    )
    assert model.ledger.inner == 6 * 39
    order = torch.arange(5, -1, -1)
    assert torch.equal(defence(x[order], draw(6).rows(order)), logits[order])
    assert not torch.equal(defence(x, draw(6, 1)), logits)
    leaf = x.clone().requires_grad_()
    known = defence.approximate(leaf, draw(6), "mean_softmax")
    assert torch.allclose(known, logits, atol=1e-6)
    (grad,) = torch.autograd.grad(known[:, 0].sum(), leaf)
    assert grad.abs().flatten(1).sum(1).min() > 0
    quiet = Smoothing(model, 1e-6, 3)
    assert torch.equal(quiet(x, draw(6)).argmax(1), model(x).argmax(1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Jpeg(Same(), 0), "defense.quality=0"), (lambda: BitDepth(Same(), 9), "defense.bits=9"),
        (lambda: Median(Same(), 2), "defense.size=2"), (lambda: ResizePad(Same(), 0.0), "defense.least=0"),
        (lambda: Smoothing(Same(), 0.0, 8), "defense.sigma=0"), (lambda: Smoothing(Same(), 1.0, 0), "defense.draws=0"),
        (lambda: Jpeg(Same(), 50).change(torch.rand(1, 2, 8, 8), draw(1)), "1 or 3 channels, not 2"),
        (lambda: Median(Same(), 9).change(torch.rand(1, 1, 4, 4), draw(1)), "too large for images of 4 x 4"),
    ],
)  # fmt: skip
def test_bad_settings_are_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(BenchError, match=said):
        make()
