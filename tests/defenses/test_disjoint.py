"""The disjoint and ADP losses against slow loops, their second derivative against finite differences; sets that are trained."""

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.models.sets import ModelSet
from bench.models.split import Split
from bench.models.weights import fresh
from defenses.recipes import adp, disjoint

NUMBERS: dict[str, Any] = {
    "angle": 0.4, "transfer_1": 0.5, "transfer_2": 0.4, "angle_epochs": [1, 4], "transfer_1_from": 2, "transfer_2_from": 3,
    "e1": 6.0, "e2": 0.03, "gain": 200.0, "sampled": None, "grad_reduction": "mean", "label_smoothing": 0.0,
}  # fmt: skip


THREE: dict[str, Any] = {"sampled": 3}


def smooth(n: int = 3, classes: int = 4, dtype: torch.dtype = torch.float64) -> ModelSet:
    """Small networks with batch norm and without kinks."""
    members = []
    for seed in range(n):
        body = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Flatten()]
        member = Split(nn.Sequential(*body), nn.Linear(4 * 9, classes), (2, 5, 5))
        fresh(member, seed)
        members.append(member)
    return ModelSet(members).to(dtype).train()


def batch(dtype: torch.dtype = torch.float64, b: int = 6) -> tuple[Tensor, Tensor]:
    return torch.rand(b, 2, 5, 5, dtype=dtype, generator=torch.Generator().manual_seed(1)), torch.arange(b) % 4


def slow(models: ModelSet, x: Tensor, y: Tensor, epoch: int, numbers: dict[str, Any]) -> float:
    """Pair by pair and image by image, with plain batch norm."""
    leaf = x.clone().requires_grad_()
    losses = [F.cross_entropy(member(leaf), y) for member in models.members]
    slopes = [torch.autograd.grad(each, leaf)[0] for each in losses]
    if numbers["grad_reduction"] == "sum":
        slopes = [len(x) * slope for slope in slopes]
    plain, n = [float(each.detach()) for each in losses], len(losses)
    value = sum(plain) / n
    if numbers["angle_epochs"][0] <= epoch <= numbers["angle_epochs"][1]:
        cosines = [
            float((a[b, c] * d[b, c]).sum() / (a[b, c].norm() * d[b, c].norm()))
            for a, d in combinations(slopes, 2) for b in range(len(x)) for c in range(x.shape[1])
        ]  # fmt: skip
        value += numbers["angle"] * float(np.mean([max(0.0, cosine + 1) for cosine in cosines]))
    kinds = [
        ("transfer_1", lambda v: numbers["e1"] * v),
        ("transfer_2", lambda v: numbers["e2"] * torch.tanh(numbers["gain"] * v)),
    ]
    for name, move in kinds:
        if epoch >= numbers[f"{name}_from"]:
            rises = [
                max(0.0, F.cross_entropy(models.members[i](x + move(slopes[j])), y).item() - plain[i])
                for i in range(n) for j in range(n) if i != j
            ]  # fmt: skip
            value += numbers[name] * sum(rises) / len(rises)
    return value


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("epoch", [0, 1, 2, 3, 5])
def test_the_loss_is_a_slow_loop_over_pairs_and_images(epoch: int, reduction: str) -> None:
    numbers = NUMBERS | {"grad_reduction": reduction, "e1": 6.0 if reduction == "mean" else 1.0}
    value, logits = disjoint.loss(smooth(), *batch(), epoch=epoch, **numbers)
    assert value.item() == pytest.approx(slow(smooth(), *batch(), epoch, numbers), rel=1e-9)
    assert logits.shape == (3, 6, 4) and not logits.requires_grad


def test_transfer_is_cut_off_at_0_per_pair_and_not_per_image() -> None:
    models, (x, y) = smooth(2), batch()
    losses = [F.cross_entropy(member(x), y) for member in models.members]
    up, down = torch.rand_like(x), torch.zeros_like(x)  # the second moves nothing: its rise is 0
    rise = F.cross_entropy(models.members[1](x + up), y) - losses[1]
    moved = {0: x + up, 1: x + down}
    value = disjoint.transfer_loss(models, moved, losses, lambda logits: F.cross_entropy(logits, y.long()))
    assert value.item() == pytest.approx(max(rise.item(), 0.0) / 2, rel=1e-6)


def test_the_gradient_is_that_of_finite_differences() -> None:
    """In every parameter, through the input gradients too; batch norm in train mode."""
    x, y = batch()
    models = smooth()
    disjoint.loss(models, x, y, epoch=4, **NUMBERS)[0].backward()
    checked = 0
    for number, parameter in enumerate(models.parameters()):
        assert parameter.grad is not None
        direction = torch.randn(parameter.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(number))
        values = []
        for sign in (1, -1):
            other = smooth()
            with torch.no_grad():
                list(other.parameters())[number].add_(sign * 1e-5 * direction)
            values.append(disjoint.loss(other, x, y, epoch=4, **NUMBERS)[0].item())
        slope = (values[0] - values[1]) / 2e-5
        assert (parameter.grad * direction).sum().item() == pytest.approx(slope, rel=1e-5, abs=1e-8)
        checked += 1
    assert checked == 18


@pytest.mark.parametrize("sampled", [None, 2])
def test_a_frozen_member_is_a_constant_and_the_new_one_learns_as_beside_any(sampled: int | None) -> None:
    """The new member's gradient is the one that it has where the others, in eval mode too, may learn."""
    x, y = batch()
    joint, grown = smooth(3), smooth(3)
    for member in joint.members[:2]:
        member.eval()
    grown.freeze(smooth(2))
    assert grown.frozen == 2 and grown.training and [m.training for m in grown.members] == [False, False, True]
    before = {name: tensor.clone() for name, tensor in grown.state_dict().items()}
    for epoch in (1, 4):
        for models in (joint, grown):
            models.zero_grad()
            torch.manual_seed(epoch)
            disjoint.loss(models, x, y, epoch=epoch, **(NUMBERS | {"sampled": sampled}))[0].backward()
        for ours, theirs in zip(grown.members[2].parameters(), joint.members[2].parameters(), strict=True):
            assert ours.grad is not None and torch.allclose(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)
        assert all(parameter.grad is None for member in grown.members[:2] for parameter in member.parameters())
    changed = {name for name, tensor in grown.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(name.startswith("2.") for name in changed)  # batch norm's running statistics
    assert disjoint.transfer_loss(grown, {0: x, 1: x}, [torch.zeros(())] * 3, lambda _: torch.ones(())).item() == 0


def test_angle_loss() -> None:
    a = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert disjoint.angle_loss([a, 2 * a]).item() == pytest.approx(2, abs=1e-5)
    assert disjoint.angle_loss([a, -a]).item() == pytest.approx(0, abs=1e-5)
    assert disjoint.angle_loss([a, -a, a]).item() == pytest.approx(2 / 3, abs=1e-5)
    assert disjoint.angle_loss([1e-22 * a, 1e-22 * a]).item() == pytest.approx(
        2, abs=1e-5
    )  # its squares vanish in float32
    dead = a.clone()
    dead[0, 1] = 0
    dead.requires_grad_()
    value = disjoint.angle_loss([dead, a])
    value.backward()
    assert value.item() == pytest.approx(2 - 1 / 12, abs=1e-5)
    assert dead.grad is not None and dead.grad.isfinite().all() and (dead.grad[0, 1] == 0).all()


def test_three_of_five_are_drawn_for_the_transfer_losses() -> None:
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        drawn = disjoint._chosen(5, 3)
        assert len(set(drawn)) == 3
        seen.add(tuple(drawn))
    assert len(seen) == 10
    assert disjoint._chosen(4, None) == [0, 1, 2, 3]
    calls = [0] * 5
    models = smooth(5)
    for i, member in enumerate(models.members):
        member.register_forward_hook(lambda *_, i=i: calls.__setitem__(i, calls[i] + 1))
    disjoint.loss(models, *batch(), epoch=3, **(NUMBERS | THREE))
    assert sorted(calls) == [1, 1, 5, 5, 5]  # 1 clean, then 2 sources and 2 losses for each that was drawn
    assert sum(calls) == 5 + 3 * 2 * 2


def test_the_sheets_passes_for_three() -> None:
    models, calls = smooth(3), []
    for member in models.members:
        member.register_forward_hook(lambda *_: calls.append(1))
    disjoint.loss(models, *batch(), epoch=4, **NUMBERS)
    assert len(calls) == 3 + 12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"angle": -0.1}, r"recipe\.loss\.angle=-0\.1 must be at least 0"),
        ({"transfer_1": -1.0}, r"recipe\.loss\.transfer_1=-1\.0 must be"),
        ({"transfer_2": math.nan}, r"recipe\.loss\.transfer_2=nan must be"),
        ({"sampled": 1}, r"recipe\.loss\.sampled=1 must lie between 2 and model\.members=3"),
        ({"sampled": 4}, r"recipe\.loss\.sampled=4 must lie"),
        ({"grad_reduction": "max"}, r"grad_reduction=max is unknown; it is one of mean, sum"),
    ],
)
def test_bad_settings_get_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        disjoint.loss(smooth(), *batch(), epoch=0, **(NUMBERS | changes))
    assert "\n" not in str(caught.value)


def test_adp_is_a_slow_loop_over_images() -> None:
    models, (x, y) = smooth(3, classes=5), batch()
    value, logits = adp.loss(models, x, y, alpha=2.0, beta=0.5, label_smoothing=0.0)
    slow_value = 0.0
    for b in range(len(x)):
        p = np.array([row.softmax(0).detach().double().numpy() for row in logits[:, b]])
        mean = p.mean(0)
        rest = np.delete(p, int(y[b]), axis=1)
        units = rest / np.linalg.norm(rest, axis=1, keepdims=True)
        volume = np.log(np.linalg.det(units @ units.T + 1e-6 * np.eye(3)))
        slow_value += -np.log(p[:, int(y[b])]).sum() + 2.0 * (mean * np.log(mean)).sum() - 0.5 * volume
    assert value.item() == pytest.approx(slow_value / len(x), rel=1e-4)
    confident = torch.zeros(2, 3, 4)
    confident[..., 0] = 200  # the other classes have no mass left in float32
    confident[1, :, 1] = 1
    assert adp.log_volume(confident, torch.zeros(3, dtype=torch.long)).isfinite().all()


def test_adps_bad_input() -> None:
    with pytest.raises(BenchError, match=r"alpha=-1\.0 must be at least 0"):
        adp.loss(smooth(), *batch(), alpha=-1.0, beta=0.5, label_smoothing=0.0)
    with pytest.raises(BenchError, match=r"model\.members=4: ADP tells at most 3 members apart by 4 classes"):
        adp.loss(smooth(4), *batch(), alpha=2.0, beta=0.5, label_smoothing=0.0)
