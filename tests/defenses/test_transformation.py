"""g against a slow loop over images and steps, its backward passes against autograd, f_a's recipe, and what GCM really does."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.victim import FixedRows, Ledger
from defenses.gcm import Gcm
from defenses.recipes import distilled, transformed
from defenses.transformation import Transform
from tests.support.networks import network
from tests.support.transformation import SETTINGS, X, defence


def draw(n: int, nth: int = 0) -> Draw:
    return Draw(0, torch.arange(n), torch.full((n,), nth), Stream.DEFENCE)


@pytest.mark.parametrize("inner", ["least_likely", "untargeted"])
def test_g_is_a_slow_loop(inner: Any) -> None:
    net = network()
    start = (torch.rand(X.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1) * 0.2
    ours = Transform(0.2, 4, 1 / 6, inner, False)(net, X, start)
    for x, s, mine in zip(X, start, ours, strict=True):
        logits = net(x[None])[0]
        aim = int(logits.argmin() if inner == "least_likely" else logits.argmax())
        current = x + s
        for _ in range(4):
            leaf = current.clone().requires_grad_()
            loss = F.cross_entropy(net(leaf[None]), torch.tensor([aim]))
            (slope,) = torch.autograd.grad(loss, leaf)
            way = -1 if inner == "least_likely" else 1
            current = (current + way * 0.2 / 6 * slope.sign()).clamp(x - 0.2, x + 0.2)
        assert torch.allclose(mine, current, atol=1e-6)
    assert (ours - X).abs().max() <= 0.2 + 1e-6 and ours.min() < 0  # not clipped to the image box
    clipped = Transform(0.2, 4, 1 / 6, inner, True)(net, X, start)
    assert clipped.min() >= 0 and clipped.max() <= 1


def test_traits() -> None:
    """Random start: another draw, another answer; rows independent; no gradient without BPDA; f_b's passes are counted."""
    ours = defence()
    first = ours(X, draw(6))
    assert torch.equal(first, ours(X, draw(6))) and not torch.equal(first, ours(X, draw(6, 1)))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.allclose(ours(X[order], draw(6).rows(order)), first[order], atol=1e-6)
    assert ours.traits.stochastic and not ours.traits.differentiable
    assert not ours(X.clone().requires_grad_(), draw(6)).requires_grad
    assert ours.model.ledger.inner == 5 * 6 * 5  # five calls of six rows: 4 steps and the label
    fixed = defence(random_start=False)
    assert not fixed.traits.stochastic and torch.equal(fixed(X, draw(6)), fixed(X, draw(6, 1)))


@pytest.mark.parametrize("kind", ["identity", "softsign", "tanh"])
def test_bpda_keeps_the_answer_and_changes_the_gradient(kind: str) -> None:
    ours = defence(steps=2)
    leaf = X.clone().requires_grad_()
    told = ours.approximate(leaf, draw(6), kind)
    assert torch.allclose(told, ours(X, draw(6)), atol=1e-5)
    (slope,) = torch.autograd.grad(told.sum(), leaf)
    moved = ours.moved(X, draw(6), "exact").requires_grad_()
    (at_g,) = torch.autograd.grad(ours.model(moved).sum(), moved)
    same = torch.allclose(slope, at_g, atol=1e-5)
    assert same if kind == "identity" else not same and slope.abs().sum() > 0


class Three:
    labels = torch.arange(30) % 10
    ids = torch.arange(30)

    def pixels(self, ids: torch.Tensor) -> torch.Tensor:
        return (X[ids % 6] * 255).byte()


def test_a_distilled_network_learns_what_the_defence_answers() -> None:
    """Its images are the plain ones; its labels are f_a's on the very draws that `cached` makes of the same settings."""
    settings: dict[str, Any] = {
        "f_b": network(), "seed": 0, "device": torch.device("cpu"), "draws": 2, "images": 20, "pad": 0, "pad_mode": "zero",
        "flip": False, "transform": SETTINGS,
    }  # fmt: skip
    f_a, three = network(), Three()
    data = distilled.answered(three, f_a=f_a, **settings)  # pyright: ignore[reportArgumentType]
    moved = transformed.cached(three, **settings)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        theirs = f_a(moved["pixels"].float().permute(0, 3, 1, 2)).argmax(1)
    assert (data["labels"] == theirs).float().mean() > 0.9  # `cached` rounds to float16
    assert not torch.equal(data["labels"], moved["labels"])
    plain = {tuple((image * 255).round().flatten().tolist()) for image in data["pixels"].float()}
    assert plain <= {tuple((image * 255).byte().float().flatten().tolist()) for image in X.permute(0, 2, 3, 1)}


def test_the_recipe_trains_on_g() -> None:
    data = transformed.cached(
        Three(),  # pyright: ignore[reportArgumentType]
        f_b=network(), seed=0, device=torch.device("cpu"), draws=2, images=20, pad=0, pad_mode="zero", flip=False,
        transform=SETTINGS,
    )  # fmt: skip
    assert data["pixels"].shape == (40, 8, 8, 1) and data["pixels"].min() < 0 and len(data["labels"]) == 40
    again = transformed.cached(
        Three(),  # pyright: ignore[reportArgumentType]
        f_b=network(), seed=0, device=torch.device("cpu"), draws=2, images=20, pad=0, pad_mode="zero", flip=False,
        transform=SETTINGS,
    )  # fmt: skip
    assert torch.equal(data["pixels"], again["pixels"])
    net = network().requires_grad_(True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        value, logits = transformed.loss(
            net, X, torch.arange(6), f_b=network(), transform=SETTINGS, label_smoothing=0.0
        )
    value.backward()
    assert logits.shape == (6, 10) and net.head.weight.grad is not None
    with pytest.raises(BenchError, match=r"recipe.data.images=99"):
        transformed.cached(
            Three(),  # pyright: ignore[reportArgumentType]
            f_b=network(), seed=0, device=torch.device("cpu"), draws=2, images=99, pad=0, pad_mode="zero", flip=False,
            transform=SETTINGS,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"delta": 51.0}, "0.2, not 51"),
        ({"steps": 0}, "steps=0"),
        ({"inner": "most"}, "inner=most"),
        ({"step": 0.0}, "step=0.0"),
    ],
)
def test_wrong_settings_get_one_line(change: dict[str, Any], word: str) -> None:
    with pytest.raises(BenchError) as caught:
        defence(**change)
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_gcm_is_the_identity_but_for_its_gradient() -> None:
    """The sheet's facts: 214 of 256 levels bit-identical, 130 factors positive, black pixels keep their sign."""
    gcm = Gcm(FixedRows(network(), 4, torch.float32, Ledger(1, torch.device("cpu"))), 1e20, 1e-8, ["input"])
    levels = torch.arange(256) / 255
    assert int((gcm._conceal(levels) == levels).sum()) == 214
    leaf = levels.clone().requires_grad_()
    (factor,) = torch.autograd.grad(gcm._conceal(leaf).sum(), leaf)
    assert int((factor > 0).sum()) == 130 and factor[0] > 0.9e12
    slow = 1 + 1e-8 * 1e20 * np.cos(np.float64(np.float32(1e20) * np.float32(levels.numpy())))
    assert np.allclose(factor.numpy(), slow, rtol=1e-2)
