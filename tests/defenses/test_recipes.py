"""The training loop: it learns, it resumes bit for bit, its schedule and its augmentation are what they say."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.config.instantiate import partial
from bench.config.network_specs import RecipeSpec
from bench.core.errors import BenchError
from bench.models.small_cnn import small_cnn
from bench.models.split import Split
from defenses.recipes import standard
from defenses.training import augment, loop
from tests.support.recipes import parsed
from tests.support.training import CPU, digits, log, network, recipe, same

CONF = Path(__file__).resolve().parents[2] / "conf" / "recipe"


def fit(folder: Path, seed: int = 0, dropout: float = 0.0, images: int = 300, **changes: Any) -> Split:
    model = network(dropout)
    settings = recipe("standard_digits", **({"epochs": 4} | changes))
    loop.train(
        model, digits(0, images), *parsed(settings), seed=seed, folder=folder, device=CPU, check=digits(1297, 1397)
    )
    return model


@pytest.mark.parametrize("name", sorted(file.stem for file in CONF.glob("standard*.yaml")))
def test_every_yaml_is_a_recipe(name: str) -> None:
    settings = RecipeSpec.parse(recipe(name))
    loss, logits = partial(settings.loss)(nn.Linear(3, 2), torch.rand(4, 3), torch.tensor([0, 1, 1, 0]))
    assert loss.shape == ()
    assert logits.shape == (4, 2)


def test_digits_are_learnt(tmp_path: Path) -> None:
    model = small_cnn(10, [1, 8, 8], [0.3], [0.38])
    train, test = digits(0, 1297), digits(1297, 1797)
    loop.train(model, train, *parsed(recipe("standard_digits")), seed=0, folder=tmp_path, device=CPU, check=test)
    rows = log(tmp_path)
    assert not model.training
    assert loop.accuracy(model, loop.on_device(test, CPU)) == rows[-1]["test_acc"] > 0.97
    assert [row["epoch"] for row in rows] == list(range(1, 31))
    assert set(rows[0]) == {"epoch", "loss", "train_acc", "test_acc", "seconds"}


@pytest.mark.parametrize("dies", ["before its state", "after its state"])
def test_killed_training_ends_with_the_same_weights(dies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dropout draws from the global generator, so that one has to be keyed by the epoch as well."""
    whole = fit(tmp_path / "whole", dropout=0.3)
    save = loop.save

    def dying(*args: Any) -> None:
        if args[-1] < 2 or dies == "after its state":
            save(*args)
        if args[-1] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", dropout=0.3)
    monkeypatch.setattr(loop, "save", save)
    torch.rand(7)  # another process would have another global generator
    resumed = fit(tmp_path / "cut", dropout=0.3)
    assert same(whole, resumed)
    one, two = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in log(tmp_path / f)] for f in ("whole", "cut")
    )
    assert one == two
    assert same(resumed, fit(tmp_path / "cut", dropout=0.3))  # nothing is left to do


def test_seeds_differ_and_a_folder_has_one_seed(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    one, two = fit(tmp_path / "0", epochs=1), fit(tmp_path / "1", seed=1, epochs=1)
    assert not same(one, two)
    with pytest.raises(BenchError, match="is of seed 1, not 2"):
        fit(tmp_path / "1", seed=2)
    torch.set_rng_state(before)
    fresh = fit(tmp_path / "again", epochs=1)
    assert same(one, fresh)


def test_global_generator_is_left_alone(tmp_path: Path) -> None:
    model = network(0.5)
    before = torch.get_rng_state()
    loop.train(
        model, digits(0, 100), *parsed(recipe("standard", epochs=1)), seed=3, folder=tmp_path, device=CPU, check=None
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert log(tmp_path)[0]["test_acc"] is None


def test_truncated_state_is_named(tmp_path: Path) -> None:
    fit(tmp_path, epochs=1)
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:200])
    with pytest.raises(BenchError, match=r"state\.safetensors is truncated"):
        fit(tmp_path)


def test_unknown_and_missing_fields() -> None:
    with pytest.raises(BenchError, match=r"recipe\.epoch is unknown; did you mean 'epochs'"):
        RecipeSpec.parse(recipe("standard", epoch=3))
    with pytest.raises(BenchError, match="recipe lacks `pad`"):
        RecipeSpec.parse({k: v for k, v in recipe("standard").items() if k != "pad"})


def test_diverged_training_stops(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"the loss became (nan|inf) in epoch \d; lower recipe.lr"):
        fit(tmp_path, lr=1e30, images=640)


def test_bf16_and_an_incomplete_batch(tmp_path: Path) -> None:
    model = fit(tmp_path, epochs=2, bf16=True, batch=1000)  # 300 images: one batch of them all
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_decay_spares_biases_and_batch_norm() -> None:
    model = network()
    decayed, spared = loop._optimiser(model, RecipeSpec.parse(recipe("standard"))).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)].rpartition(".")[2] for p in decayed["params"]} == {"weight"}
    assert all(p.ndim > 1 for p in decayed["params"])
    assert (decayed["weight_decay"], spared["weight_decay"]) == (5e-4, 0.0)
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))


def test_plain_sgd_that_decays_everything_is_torchs_own() -> None:
    """Two steps of a recipe with nesterov=false, decay_all=true beside torch.optim.SGD over all parameters as one group."""
    ours, theirs = network(), network()
    theirs.load_state_dict(ours.state_dict())
    changed = {"nesterov": False, "decay_all": True, "weight_decay": 0.1, "lr": 0.1, "momentum": 0.9}
    optimisers = (
        loop._optimiser(ours, RecipeSpec.parse(recipe("standard", **changed))),
        torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1),
    )
    for step in range(2):
        for model, optimiser in zip((ours, theirs), optimisers, strict=True):
            for n, parameter in enumerate(model.parameters()):
                parameter.grad = torch.full_like(parameter, 0.01 * (n + 1) * (step + 1))
            optimiser.step()
    assert all(torch.allclose(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_one_cycle() -> None:
    settings = RecipeSpec.parse(recipe("standard", lr=0.8, peak=0.25))
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    for done, lr in ((0.0, 0.0), (0.125, 0.4), (0.25, 0.8), (0.625, 0.4), (1.0, 0.0)):
        loop._set_lr(optimiser, settings, done)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(lr)


def test_the_rate_drops_at_the_epochs_named() -> None:
    settings = RecipeSpec.parse(recipe("fgr_base"))
    assert (settings.epochs, settings.drops, settings.lr) == (80, [40, 60], 0.1)  # the FGR paper's
    optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    for epoch, lr in ((0.0, 0.1), (39.99, 0.1), (40.01, 0.01), (59.99, 0.01), (60.01, 0.001), (79.99, 0.001)):
        loop._set_lr(optimiser, settings, epoch / 80)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(lr)


@pytest.mark.parametrize("mode", ["reflect", "zero"])
def test_crop_and_flip_equal_pad_and_slice(mode: augment.Pad) -> None:
    images = torch.randint(0, 256, (40, 3, 9, 11), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    chance = augment.plan(40, 3, flip=True, key=1, device=CPU)
    batch = augment.gather(images.permute(0, 2, 3, 1).contiguous(), chance, mode)
    kind = "reflect" if mode == "reflect" else "constant"
    for image, n, down, right, flip in zip(batch, *chance, strict=True):
        large = F.pad(images[n].float(), (3, 3, 3, 3), mode=kind)
        slow = large[:, 3 + down : 12 + down, 3 + right : 14 + right]
        assert torch.equal(image.float(), slow.flip(2) if flip else slow)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_plan_is_a_permutation_with_all_shifts() -> None:
    chance = augment.plan(5000, 2, flip=False, key=7, device=CPU)
    assert chance.ids.sort().values.equal(torch.arange(5000))
    assert chance.down.unique().tolist() == chance.right.unique().tolist() == [-2, -1, 0, 1, 2]
    assert not chance.flip.any()
    assert augment.plan(5000, 2, flip=True, key=8, device=CPU).flip.float().mean().item() == pytest.approx(
        0.5, abs=0.03
    )


def test_label_smoothing() -> None:
    x, y = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0])
    loss, logits = standard.loss(nn.Identity(), x, y, label_smoothing=0.2)
    target = F.one_hot(y, 4) * 0.8 + 0.2 / 4
    assert torch.equal(logits, x)
    torch.testing.assert_close(loss, -(target * x.log_softmax(1)).sum(1).mean())


def test_a_log_without_terminal_has_a_line_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, epochs=2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("training: epoch 2/2  loss ")
    assert "test " in lines[1]
