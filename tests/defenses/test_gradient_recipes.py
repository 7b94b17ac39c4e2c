"""Gradient regularisation: values and gradients against finite differences in double precision, its cheap layers against
torch's own, a killed training, bad input."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.config import grid
from bench.config.network_specs import RecipeSpec
from bench.core.errors import BenchError
from bench.models.small_cnn import small_cnn
from bench.models.vgg import vgg11
from defenses.recipes import gradient
from defenses.training import loop
from defenses.training.double_backward import cheap_twice
from tests.support.recipes import parsed
from tests.support.training import digits, log, same

NAMES = sorted(gradient.MODIFICATIONS)
DEFAULTS: dict[str, Any] = {
    "sigma": 0.0, "squared": True, "ce_on_warped": False, "patch_side": 3, "attack": None, "label_smoothing": 0.0
}  # fmt: skip


class Smooth(nn.Module):
    """A network without kinks, with batch norm, in double precision."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Linear(3 * 36, 4)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.softplus(self.norm(self.conv(x))).flatten(1))


def scene(seed: int = 0) -> tuple[Smooth, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Smooth().train()
        x, y = torch.rand(5, 2, 6, 6, dtype=torch.float64), torch.randint(4, (5,))
    return model, x, y


def value(model: nn.Module, x: Tensor, y: Tensor, seed: int = 7, **settings: Any) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # random starts and patches
        return gradient.loss(model, x, y, **(DEFAULTS | settings))[0]


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).float(), y)


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipes compute losses in float32; finite differences need more digits."""
    monkeypatch.setattr(Tensor, "float", lambda self: self)


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_the_penalty_is_the_squared_gradient_by_n(name: str, sigma: float) -> None:
    """By forward differences of the loss in every coordinate of n: at n = 0 a flow's derivative is one-sided."""
    model, x, y = scene()
    settings = {"modification": name, "sigma": sigma}
    ours = value(model, x, y, lam=1.0, **settings) - value(model, x, y, lam=0.0, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        tau = gradient._modification(name, x, 3)
        n = tau.zero + sigma * torch.randn_like(tau.zero) if sigma else tau.zero
    if (
        name == "affine" and not sigma
    ):  # a matrix moves pixels to the left and up as well, where the other side's slope holds
        pytest.skip("affine at rest is compared with autograd")
    h, total = 1e-6, 0.0
    here = F.cross_entropy(model(tau.apply(x, n)), y, reduction="sum")
    for place in range(n[0].numel()):
        for row in range(len(x)):  # one image at a time: batch norm couples them
            moved = n.clone()
            moved[row].view(-1)[place] += h
            slope = (F.cross_entropy(model(tau.apply(x, moved)), y, reduction="sum") - here) / h
            total += slope.item() ** 2
    assert ours.item() == pytest.approx(total / len(x), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_pull_is_the_chain_rule(name: str, sigma: float) -> None:
    _, x, _ = scene()
    tau = gradient._modification(name, x, 3)
    n = tau.zero + sigma * torch.randn(tau.zero.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    n = n if sigma else tau.zero
    leaf, grad = n.clone().requires_grad_(), torch.rand_like(x)
    (exact,) = torch.autograd.grad(tau.apply(x, leaf), leaf, grad)
    torch.testing.assert_close(tau.pull(x, n, grad), exact)
    assert torch.equal(tau.apply(x, tau.zero), x)


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "settings",
    [{}, {"sigma": 0.1}, {"sigma": 0.1, "ce_on_warped": True}, {"squared": False}, {"sigma": 0.1, "squared": False}],
    ids=str,
)
def test_the_gradient_by_the_weights_is_that_of_finite_differences(name: str, settings: dict[str, Any]) -> None:
    model, x, y = scene()
    settings = {"modification": name, "lam": 2.0} | settings
    value(model, x, y, **settings).backward()
    h = 1e-5
    for parameter in model.parameters():
        flat, slope = parameter.data.view(-1), parameter.grad
        assert slope is not None
        for place in range(0, len(flat), max(1, len(flat) // 5)):
            kept, told = flat[place].item(), []
            for side in (h, -h):
                flat[place] = kept + side
                told.append(value(model, x, y, **settings).item())
            flat[place] = kept
            slow = (told[0] - told[1]) / (2 * h)
            assert slope.view(-1)[place].item() == pytest.approx(slow, rel=2e-5, abs=2e-7)


@pytest.mark.usefixtures("in_double")
def test_lambda_is_per_sample() -> None:
    """Without batch norm, twice the batch has the same loss: the paper's would have a quarter of the penalty."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.Softplus(), nn.Linear(8, 4)).double()
    _, x, y = scene()
    one = value(model, x, y, modification="flow", lam=3.0)
    two = value(model, x.repeat(2, 1, 1, 1), y.repeat(2), modification="flow", lam=3.0)
    assert one.item() == pytest.approx(two.item()) and one > cross_entropy(model, x, y)


@pytest.mark.usefixtures("in_double")
def test_lambda_zero_is_plain_training_and_the_attack_moves_only_the_cross_entropy() -> None:
    model, x, y = scene()
    assert value(model, x, y, modification="flow", lam=0.0).item() == pytest.approx(cross_entropy(model, x, y).item())
    attack = {"eps": "0.1", "steps": 2, "step": "0.05", "random_start": False}
    both = value(model, x, y, modification="flow", lam=2.0, attack=attack)
    penalty = value(model, x, y, modification="flow", lam=2.0) - value(model, x, y, modification="flow", lam=0.0)
    attacked = value(model, x, y, modification="flow", lam=0.0, attack=attack)
    assert both.item() == pytest.approx((attacked + penalty).item())
    assert attacked > cross_entropy(model, x, y)


@pytest.mark.parametrize("channels", [1, 3])
def test_cheap_layers_are_torchs_own(channels: int) -> None:
    """Values, running statistics, first and second derivatives of a VGG in train mode, with torch's layers and with ours."""
    found = []
    for ours in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = vgg11(10, [channels, 32, 32], [0.4] * channels, [0.3] * channels, width=4).double().train()
            x, y = torch.rand(6, channels, 32, 32, dtype=torch.float64, requires_grad=True), torch.randint(10, (6,))
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if ours:
            with cheap_twice(model):
                logits = model(x)
        else:
            logits = model(x)
        each = F.cross_entropy(logits, y, reduction="none")
        (slope,) = torch.autograd.grad(each.sum(), x, create_graph=True)
        (each.mean() + slope.square().sum()).backward()
        assert not any("forward" in module.__dict__ for module in model.modules())
        found.append([logits, slope, *(p.grad for p in model.parameters()), *model.buffers()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def recipe(name: str, *typed: str) -> dict[str, Any]:
    (cell,) = grid.cells([f"recipe={name}", *typed])
    return dict(cell.config["recipe"])


ALL_SMALL = sorted(path.stem for path in (grid.CONF / "recipe").glob("*_mnist_small.yaml"))
SMALL = [name for name in ALL_SMALL if not name.startswith("disjoint")]  # whose loss is of a set: test_set_training.py


@pytest.mark.parametrize("name", SMALL)
def test_every_small_recipe_lowers_its_loss(name: str, tmp_path: Path) -> None:
    settings = recipe(name, "recipe.epochs=4", "recipe.images=512", "recipe.batch=32", "recipe.pad=0")
    model = small_cnn(10, [1, 8, 8], [0.3], [0.38], width=8, hidden=32)
    loop.train(
        model, digits(0, 600), *parsed(settings), seed=0, folder=tmp_path, device=torch.device("cpu"), check=None
    )
    losses = [row["loss"] for row in log(tmp_path)]
    assert losses[-1] < losses[0]


def test_a_killed_fgr_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(folder: Path) -> nn.Module:
        model = small_cnn(10, [1, 8, 8], [0.3], [0.38], width=8, hidden=32)
        settings = recipe("fgr_rs_mnist_small", "recipe.epochs=3", "recipe.images=256", "recipe.batch=64")
        loop.train(
            model, digits(0, 300), *parsed(settings), seed=0, folder=folder, device=torch.device("cpu"), check=None
        )
        return model

    whole, save = fit(tmp_path / "whole"), loop.save

    def dying(*args: Any) -> None:
        save(*args)
        if args[-1] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut")
    monkeypatch.setattr(loop, "save", save)
    torch.rand(3)
    assert same(whole, fit(tmp_path / "cut"))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"lam": -1.0}, r"recipe\.loss\.lam=-1\.0 must be a number of at least 0"),
        ({"lam": float("nan")}, r"recipe\.loss\.lam=nan"),
        ({"sigma": -0.1}, r"recipe\.loss\.sigma=-0\.1"),
        ({"modification": "flwo"}, r"modification=flwo is unknown; did you mean 'flow'"),
        ({"modification": "patch", "patch_side": 9}, r"patch_side=9 must lie between 1 and the image's 6 pixels"),
        (
            {"attack": {"eps": "8", "steps": 1, "step": "1/8", "random_start": True}},
            r"attack\.eps=8 must be a fraction",
        ),
    ],
)
def test_bad_settings_are_one_line(settings: dict[str, Any], line: str) -> None:
    model, x, y = scene()
    with pytest.raises(BenchError, match=line) as caught:
        value(model, x, y, **({"modification": "flow", "lam": 1.0} | settings))
    assert "\n" not in str(caught.value)


def test_too_many_images_and_compile_are_one_line(tmp_path: Path) -> None:
    model, settings = (
        small_cnn(10, [1, 8, 8], [0.3], [0.38], width=8),
        recipe("standard_mnist_small", "recipe.images=10000"),
    )
    with pytest.raises(BenchError, match=r"recipe\.images=10000, but there are 300"):
        loop.train(
            model, digits(0, 300), *parsed(settings), seed=0, folder=tmp_path, device=torch.device("cpu"), check=None
        )
    model._orig_mod = nn.Identity()  # what a compiled module has
    with pytest.raises(BenchError, match=r"recipe\.compile=true"):
        value(model, torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.long), modification="flow", lam=1.0)


def test_old_recipes_keep_their_fields() -> None:
    """`images` is in no older YAML, so their weights keep their keys."""
    assert "images" not in recipe("standard") and RecipeSpec.parse(recipe("standard")).images is None
