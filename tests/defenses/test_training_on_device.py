"""An epoch of every recipe of conf/ on pretended CUDA tensors: whatever waits for the device raises, and so does a CPU tensor
that meets one of its own (see tests/run/test_tick.py). A new YAML needs no entry here."""

import contextlib
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from bench.assemble.untrained import one_build, untrained
from bench.config import grid, places
from bench.config.instantiate import make, partial
from bench.config.network_specs import RecipeSpec
from bench.models.small_cnn import small_cnn
from bench.models.split import Split
from defenses.recipes import disjoint
from defenses.training import loop, model_sets
from defenses.training.progress import Progress
from tests.defenses.test_every_recipe import shrunk, words
from tests.run.test_tick import FAKE

IMAGES, BATCH = 24, 8


def small() -> Split:
    return small_cnn(10, [1, 8, 8], [0.3], [0.38], width=4, hidden=16)


VARIANTS = {  # of recipes, what no YAML says: recipe, words of its loss
    "half clean": ("at_pgd", {"clean_weight": 0.5}),
    "affine": ("fgr", {"modification": "affine"}),
    "patch": ("fgr", {"modification": "patch", "patch_side": 3}),
}
# all losses in the first epoch
ALL_AT_ONCE = {"angle_epochs": [0, 9], "transfer_1_from": 0, "transfer_2_from": 0}
QUICK = (
    "standard_gpu",
    "fast_at",
    "at_pgd",
    "trades_80",
    "at_deform",
    "igr",
    "fgr",
    "fgr_rs_at",
    "pni",
    "disjoint_3",
    "adp",
)
ALL = [
    each if each in QUICK or each in VARIANTS else pytest.param(each, marks=pytest.mark.slow)
    for each in [*places.choices("recipe"), *VARIANTS]
]


def made_of(name: str) -> tuple[RecipeSpec, Any, nn.Module]:
    """A recipe of conf/ at the scale of these tests, its loss, and a model that it trains; the networks that it needs are
    untrained."""
    recipe, more = VARIANTS.get(name, (name, {}))
    (cell,) = grid.cells([f"recipe={recipe}", *words(recipe)])
    plain = shrunk(cell.config["recipe"], grid.base(["model=small_cnn"])["model"])
    late = {key: value for key, value in ALL_AT_ONCE.items() if key in plain["loss"]}
    plain |= {"loss": plain["loss"] | late | more, "batch": BATCH, "epochs": 2, "images": None}
    spec = type(cell.spec).parse(cell.config | {"recipe": plain})
    assert spec.recipe is not None
    if spec.model.weights == "image":
        model: Any = make(one_build(spec.model))
    else:
        model = untrained(spec)
    if spec.recipe.frozen is not None:
        model.frozen = spec.recipe.frozen.members
        for member in model.members[: model.frozen]:
            member.requires_grad_(False)
        model.train()
    others = {name: small() for name in spec.recipe.needs or {}} if spec.recipe.data is None else {}
    return spec.recipe, partial(spec.recipe.loss, **others), model


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autograd's engine and CUDA's generators want a real device; gradients of the right shapes are pretended, too."""

    def grad(outputs: Any, inputs: Any, **_: Any) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(each) for each in ([inputs] if isinstance(inputs, Tensor) else inputs))

    monkeypatch.setattr(torch.autograd, "grad", grad)
    monkeypatch.setattr(torch.random, "fork_rng", lambda **_: contextlib.nullcontext())


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("name", ALL)
def test_an_epoch_waits_for_nothing(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    with FAKE:
        device = torch.device("cuda")
        with device:
            spec, loss, model = made_of(name)
        learning = [p for p in model.parameters() if p.requires_grad]

        def backward(self: Tensor) -> None:
            assert self.device.type == "cuda" and self.shape == ()
            for p in learning:
                p.grad = torch.zeros_like(p)

        monkeypatch.setattr(Tensor, "backward", backward)
        channels = 2 if spec.loss.target.endswith("paired") else 1
        pixels = torch.zeros(IMAGES, 8, 8, channels, dtype=torch.uint8, device=device)
        images = loop.Images(pixels, torch.zeros(IMAGES, dtype=torch.int64, device=device))
        optimiser, loss_of = loop._optimiser(model, spec), model_sets.fitted(loss, model, False)
        with Progress(tmp_path / "log.jsonl", 0, 2, IMAGES // BATCH) as progress:
            sums = loop._epoch(model, loss_of, images, optimiser, spec, 1, 7, progress)
        assert sums.shape == (2,) and sums.device.type == "cuda"


@pytest.mark.parametrize("rises", [(0.5, -0.25, 0.0), (-1.0, -2.0, -0.5), (float("nan"), 1.0, -1.0)])
def test_what_the_host_does_not_cut_off_adds_nothing_either(
    rises: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of disjoint's pairs whose loss the move does not raise: the same value and gradients with and without looking."""

    def found(look: bool) -> list[Tensor]:
        monkeypatch.setattr(disjoint, "on_host", lambda _: look)
        members = [nn.Linear(1, 1, bias=False) for _ in range(3)]
        models = nn.ModuleList(members)
        cast(Any, models).members, cast(Any, models).frozen = members, 0
        for member, rise in zip(members, rises, strict=True):
            nn.init.constant_(member.weight, rise)
        moved = {j: torch.ones(1, 1) for j in range(3)}
        value = disjoint.transfer_loss(cast(Any, models), moved, [torch.zeros(())] * 3, lambda logits: logits.sum())
        if value.requires_grad:  # it may be nobody's
            value.backward()
        return [value.detach(), *(m.weight.grad if m.weight.grad is not None else torch.zeros(1, 1) for m in members)]

    for ours, theirs in zip(found(True), found(False), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
