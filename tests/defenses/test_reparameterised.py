"""h and f_a(h(x)) on digits: pairs belong together, h learns g, gradients are autograd's, a cell replays what was crafted."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from bench.config import grid
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.victim import FixedRows, Ledger
from bench.models.image_to_image import convolutional
from bench.models.split import Split
from bench.models.weights import fresh
from bench.run import cell
from bench.store.records import Cell
from defenses.recipes import reparameterise, transformed
from defenses.reparameterised import Reparameterised
from defenses.training import loop
from tests.support.networks import network
from tests.support.recipes import parsed
from tests.support.training import digits

CPU = torch.device("cpu")
X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TRANSFORM: dict[str, Any] = {"delta": 0.2, "steps": 4, "step": 1 / 6, "inner": "least_likely", "clip": False}
VIEWS: dict[str, Any] = {"draws": 3, "images": 200, "pad": 1, "pad_mode": "zero", "flip": False}
H = "attack.sources.a.defense.needs.h"
CELL = [
    "attack=replay_h", "defense=transformation", "model@f_b.model=small_cnn", "recipe@f_b.recipe=standard_digits",
    "defense.steps=4",
    f"{H}.model.build.width=8", f"{H}.recipe.epochs=2", f"{H}.recipe.data.images=200", f"{H}.recipe.data.draws=2",
    f"{H}.recipe.data.transform.steps=4", "samples.n=16", "numerics.rows=8", "attack.craft.steps=10", "attack.craft.step=0.2",
]  # fmt: skip


def local() -> Split:
    """An f_b whose gradient is the same wherever the image lies, as a fully convolutional h can learn it."""
    convolution, head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 10)
    net = Split(nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), head, (1, 8, 8))
    fresh(net, 3)
    return net.eval().requires_grad_(False)


def pairs(**change: Any) -> dict[str, Tensor]:
    settings: dict[str, Any] = {"seed": 0, "device": CPU} | VIEWS
    moved = transformed.cached(digits(0, 300), f_b=local(), transform=TRANSFORM, **settings)
    return reparameterise.pairs(digits(0, 300), moved, transform=TRANSFORM | change, **settings)


def test_a_pair_is_an_image_and_its_own_g() -> None:
    found = pairs()
    x, moved = found["pixels"].float().chunk(2, dim=3)
    assert found["pixels"].shape == (600, 8, 8, 2) and 0.1 < (moved - x).abs().max() <= 0.2 + 1e-3
    assert x.min() == 0 and x.max() == 1 and len(found["labels"]) == 600
    with pytest.raises(BenchError, match=r"beyond delta=0.05; delete that data artifact"):
        pairs(delta=0.05)


def test_h_begins_as_the_identity_and_learns_g(tmp_path: Path) -> None:
    data, recipe = pairs(), make_recipe("reparameterisation_small", epochs=10, lr=0.1, batch=32)
    h = convolutional([1, 8, 8], 8, [1, 2])
    fresh(h, 0)
    assert torch.equal(h(X), X) and h(X[:, :, :5, :7]).shape == (6, 1, 5, 7)
    loop.train(h, digits(0, 300), *parsed(recipe), seed=0, folder=tmp_path, device=CPU, check=None, data=data)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    x, moved = data["pixels"].float().chunk(2, dim=3)
    assert log[-1]["loss"] < 0.95 * float((x - moved).square().mean())  # most of the distance is g's random start
    assert log[0]["train_acc"] is log[0]["test_acc"] is None


def make_recipe(name: str, **change: Any) -> dict[str, Any]:
    """A recipe's settings for the loop, without what it needs and its data."""
    (found,) = grid.cells([f"recipe={name}"])
    return {k: v for k, v in found.config["recipe"].items() if k not in ("needs", "data")} | change


def test_fresh_draws_give_the_same_loss_as_pairs() -> None:
    """`loss` is || h(x) - g(x) ||^2 a pixel, with another start on each call; of the identity, that of x and g."""
    h = convolutional([1, 8, 8], 8, [1])
    fresh(h, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, none = reparameterise.loss(h, X, torch.arange(6), f_b=network(), transform=TRANSFORM)
        again, _ = reparameterise.loss(h, X, torch.arange(6), f_b=network(), transform=TRANSFORM)
    assert none is None and first != again and abs(first - again) < 0.2 * first
    both = torch.cat([X, X + 0.1], dim=1)
    assert reparameterise.paired(h, both, torch.arange(6))[0].item() == pytest.approx(0.01, rel=1e-4)


def test_the_gradient_is_autograds_through_both() -> None:
    ledger = Ledger(10, CPU)
    h = convolutional([1, 8, 8], 4, [1]).eval()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        [nn.init.normal_(p, std=0.1) for p in h.parameters() if p.ndim > 1]
    net = network()
    ours = Reparameterised(FixedRows(net, 6, torch.float32, ledger), h)
    leaf, draw = X.clone().requires_grad_(), Draw(0, torch.arange(6), torch.zeros(6, dtype=torch.int64), Stream.DEFENCE)
    told = ours(leaf, draw)
    (slope,) = torch.autograd.grad(told.logsumexp(1).sum(), leaf)
    other = X.clone().requires_grad_()
    direct = net(h(other))
    (true,) = torch.autograd.grad(direct.logsumexp(1).sum(), other)
    assert torch.allclose(told, direct, atol=1e-6) and torch.allclose(slope, true, atol=1e-6)
    assert not torch.allclose(slope, torch.autograd.grad(net(other).logsumexp(1).sum(), other)[0], atol=1e-4)
    assert ledger.inner == 6 and ours.traits.differentiable and not ours.traits.stochastic
    assert ours.added_parameters() == sum(p.numel() for p in h.parameters())


def test_a_cell_replays_what_was_crafted_through_h(compose: Any, tmp_path: Path) -> None:
    config = compose(*CELL)
    first = Cell(Path(config["store"]), cell.run(config)).frame()
    assert float(first["linf"].max()) > 0.05 and int(first["fooled"].sum()) > 0
    again = compose(*CELL, store=tmp_path / "again")
    second = Cell(Path(again["store"]), cell.run(again)).frame()
    pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"), check_exact=True)


def test_its_pairs_come_out_of_the_cache_of_f_a() -> None:
    """f_a's recipe and h's name the same images and draws of g: one artifact, made once."""
    (small,) = grid.cells(["dataset=cifar10_jpeg", "model=cifar_small", "recipe=transformation_small"])
    (other,) = grid.cells(["dataset=cifar10_jpeg", "model=cifar_small", "recipe=reparameterisation_small"])
    assert all(small.config["recipe"][part] == other.config["recipe"][part] for part in ("data", "needs"))


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        ([f"{H}.model.build.width=0"], "build.width=0"),
        ([f"model@{H}.model=small_cnn"], "is no network from image to image"),
        ([f"{H}.recipe.data.images=0"], "recipe.data.images=0"),
        ([f"{H}.recipe.data.transform.delta=51"], "0.2, not 51"),
    ],
)
def test_bad_settings_get_one_line(typed: list[str], word: str, compose: Any) -> None:
    names = [override.partition("=")[0] for override in typed]
    kept = [o for o in CELL if o.partition("=")[0] not in names and not ("small_cnn" in typed[0] and ".build." in o)]
    with pytest.raises(BenchError) as caught:
        cell.run(compose(*kept, *typed))
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_h_is_no_cells_model(compose: Any) -> None:
    with pytest.raises(BenchError, match="answers images, no classes"):
        cell.run(compose("model=h_small", "samples.n=8"))
