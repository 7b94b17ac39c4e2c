"""An epoch of every kind of recipe on pretended CUDA tensors: whatever waits for the device raises, and so does a CPU tensor that
meets one of its own (see tests/run/test_tick.py)."""

import contextlib
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from bench.models.image_to_image import convolutional
from bench.models.pni import noisy
from bench.models.sets import ModelSet
from bench.models.small_cnn import small_cnn
from bench.models.split import Split
from defenses.recipes import disjoint, reparameterise
from defenses.training import loop, model_sets
from defenses.training.progress import Progress
from tests.run.test_tick import FAKE
from tests.support.recipes import parsed
from tests.support.training import recipe

IMAGES, BATCH = 24, 8


def small() -> Split:
    return small_cnn(10, [1, 8, 8], [0.3], [0.38], width=4, hidden=16)


def three() -> ModelSet:
    return ModelSet([small(), small(), small()])


def one_of_three_frozen() -> ModelSet:
    made = three()
    made.frozen = 1
    made.members[0].requires_grad_(False)
    return made.train()


AFTER = {"angle_epochs": [0, 9], "transfer_1_from": 0, "transfer_2_from": 0}  # all losses in the first epoch
RECIPES: dict[str, tuple[str, dict[str, Any], Callable[[], nn.Module]]] = {
    "standard": ("standard_gpu", {}, small),
    "fast AT": ("fast_at", {}, small),
    "AT-PGD": ("at_pgd", {}, small),
    "half clean": ("at_pgd", {"clean_weight": 0.5}, small),
    "TRADES": ("trades_80", {}, small),
    "AT on deformations": ("at_deform", {"eps": 1.0, "step": 0.3}, small),
    "IGR": ("igr", {}, small),
    "FGR": ("fgr", {}, small),
    "FGR+RS": ("fgr_rs", {}, small),
    "FGR+RS and AT": ("fgr_rs_at", {}, small),
    "affine": ("fgr", {"modification": "affine"}, small),
    "patch": ("fgr", {"modification": "patch", "patch_side": 3}, small),
    "PNI": ("pni", {}, lambda: noisy(small())),
    "disjoint": ("disjoint_3", AFTER, three),
    "disjoint, one frozen": ("disjoint_3", AFTER, one_of_three_frozen),
    "ADP": ("adp", {}, three),
    "image to image": ("standard", {"loss": reparameterise.paired}, lambda: convolutional([1, 8, 8], 4, [1])),
}


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autograd's engine and CUDA's generators want a real device; gradients of the right shapes are pretended, too."""

    def grad(outputs: Any, inputs: Any, **_: Any) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(each) for each in ([inputs] if isinstance(inputs, Tensor) else inputs))

    monkeypatch.setattr(torch.autograd, "grad", grad)
    monkeypatch.setattr(torch.random, "fork_rng", lambda **_: contextlib.nullcontext())


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("kind", RECIPES)
def test_an_epoch_waits_for_nothing(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    name, changes, make = RECIPES[kind]
    whole = recipe(name, batch=BATCH, epochs=2, compile=False)
    whole["loss"] = changes.get("loss") or {**whole["loss"], **changes}
    spec, loss = parsed(whole)
    with FAKE:
        device = torch.device("cuda")
        with device:
            model = make()
        learning = [p for p in model.parameters() if p.requires_grad]

        def backward(self: Tensor) -> None:
            assert self.device.type == "cuda" and self.shape == ()
            for p in learning:
                p.grad = torch.zeros_like(p)

        monkeypatch.setattr(Tensor, "backward", backward)
        channels = 2 if kind == "image to image" else 1
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
