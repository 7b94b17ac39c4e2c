"""A set in the training loop: it resumes, its members can be independent, and disjoint ones come out disjoint."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.config import grid
from bench.models.sets import ModelSet
from defenses.recipes import standard
from defenses.training import loop, model_sets
from scripts import set_cost
from tests.support.recipes import parsed
from tests.support.training import CPU, digits, network, same


def recipe(name: str, **changes: Any) -> dict[str, Any]:
    (cell,) = grid.cells([f"recipe={name}"])
    small = {"epochs": 4, "batch": 64, "lr": 0.05, "pad": 1, "flip": False}
    return cell.config["recipe"] | small | changes


def fit(folder: Path, name: str, n: int = 3, **changes: Any) -> ModelSet:
    models = ModelSet([network(0.2) for _ in range(n)])
    settings = recipe(name, **changes)
    loop.train(models, digits(0, 256), *parsed(settings), seed=0, folder=folder, device=CPU, check=digits(1297, 1397))
    return models


@pytest.mark.parametrize(("name", "n"), [("disjoint_3", 3), ("disjoint_5", 5), ("adp", 3), ("standard_digits", 2)])
def test_a_killed_set_ends_with_the_same_weights(
    name: str, n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(tmp_path / "whole", name, n)
    save = loop.save

    def dying(*args: Any) -> None:
        save(*args)
        if args[-1] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", name, n)
    monkeypatch.setattr(loop, "save", save)
    torch.rand(7)
    resumed = fit(tmp_path / "cut", name, n)
    assert same(whole, resumed) and not same(resumed[0], resumed[1])


def test_one_more_member_is_trained_beside_frozen_ones_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = fit(tmp_path / "two", "disjoint_3", 2, epochs=1)
    before = {name: tensor.clone() for name, tensor in two.state_dict().items()}

    def grow(folder: Path) -> ModelSet:
        models = ModelSet([network(0.2) for _ in range(3)])
        models.freeze(two)
        loop.train(models, digits(0, 256), *parsed(recipe("disjoint_3")), seed=0, folder=folder, device=CPU, check=None)
        return models

    whole = grow(tmp_path / "whole")
    found = whole.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in before.items())
    untrained = ModelSet([network(0.2) for _ in range(3)])
    model_sets.fresh_weights(untrained, seed=0)
    assert not same(whole[2], untrained[2]) and not same(whole[2], two[1])
    save = loop.save

    def dying(*args: Any) -> None:
        save(*args)
        if args[-1] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        grow(tmp_path / "cut")
    monkeypatch.setattr(loop, "save", save)
    torch.rand(7)
    assert same(whole, grow(tmp_path / "cut"))


def test_a_recipe_for_one_network_trains_independent_members() -> None:
    """Each member's gradient is the one that it would have alone, its first weights do not depend on n."""
    models = ModelSet([network() for _ in range(3)])
    model_sets.fresh_weights(models, seed=5)
    pair = ModelSet([network() for _ in range(2)])
    model_sets.fresh_weights(pair, seed=5)
    assert same(models[1], pair[1]) and not same(models[0], models[1])
    x, y = torch.rand(20, 1, 8, 8), torch.arange(20) % 10
    plain = partial(standard.loss, label_smoothing=0.1)
    value, logits = model_sets.fitted(plain, models, False)(models, x, y, 0)
    value.backward()
    grads = [p.grad.clone() for p in models[1].parameters() if p.grad is not None]
    models.zero_grad()
    alone, _ = plain(models[1], x, y)
    alone.backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(grads, models[1].parameters(), strict=True) if p.grad is not None)
    assert logits.shape == (3, 20, 10)


def test_a_loss_gets_the_epoch_if_it_asks() -> None:
    seen = []

    def asking(model: nn.Module, x: Tensor, y: Tensor, *, epoch: int) -> tuple[Tensor, Tensor]:
        seen.append(epoch)
        return model(x).sum(), model(x)

    single = nn.Linear(3, 2)
    model_sets.fitted(asking, single, False)(single, torch.rand(4, 3), torch.zeros(4).long(), 7)
    assert seen == [7]


def test_a_set_learns_to_be_disjoint(tmp_path: Path) -> None:
    """On training images: a step along member 0's slope harms the others less than without the transfer losses."""
    data = digits(0, 256)
    x, y = data.images[:128].float() / 255, data.labels[:128]
    harm = {}
    for name, weight in (("off", 0.0), ("on", 2.0)):
        loss = recipe("disjoint_3")["loss"] | {
            "transfer_1": weight,
            "transfer_2": weight,
            "angle": 0.0,
            "gain": 2e4,
            "e2": 0.1,
        }
        models = fit(tmp_path / name, "disjoint_3", epochs=12, loss=loss | {"transfer_1_from": 1, "transfer_2_from": 1})
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(models[0](leaf), y), leaf)
        moved = x + 0.1 * slope.sign()
        harm[name] = max(
            (F.cross_entropy(models[i](moved), y) - F.cross_entropy(models[i](x), y)).item() for i in (1, 2)
        )
    assert harm["on"] < harm["off"] - 0.1


def test_the_cost_of_a_step_is_measured() -> None:
    """The script runs; its numbers are too noisy here to hold to the sheet's 18."""
    (cell,) = grid.cells(["model=set_small_cnn", "recipe=disjoint_3", "device=cpu"])
    ratios = set_cost.measure(cell.config, rounds=3, batch=32)
    assert set(ratios) == {"3 standard", "natural", "whole"}
    assert 1 < ratios["3 standard"] < ratios["whole"] < 60
