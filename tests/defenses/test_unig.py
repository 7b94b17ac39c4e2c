"""UniG: its closed form against a slow autograd loop, its traits by experiment, its groups."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.victim import FixedRows, Ledger, Victim
from defenses.rnd import Rnd
from defenses.unig import Unig, gradient


class Net(nn.Module):
    """A split model small enough to differentiate by hand."""

    def __init__(self, width: int = 12, classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.ReLU())
        self.head = nn.Linear(width, classes)


def fixed(rows: int = 6) -> FixedRows:
    return FixedRows(Net(), rows, torch.float32, Ledger(100, torch.device("cpu")))


def unig(model: nn.Module, **changes: object) -> Unig:
    settings: dict = {
        "delta": 0.5, "steps": 1, "alpha": 10, "objective": "l2", "optimizer": "sgd", "stateful": False,
        "deterministic_init": False, "group": {"size": 6, "neighbours": "stay"},
    }  # fmt: skip
    return Unig(model, **(settings | changes))


def draw(n: int, nth: int = 0, start: int = 0) -> Draw:
    return Draw(0, torch.arange(start, start + n), torch.full((n,), nth), Stream.DEFENCE)


def images(n: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def slow_objective(
    f: Tensor, label: Tensor, mask: Tensor, head: nn.Linear, objective: str, bounds: tuple | None
) -> Tensor:
    """Straight from the sheet, one batch (b,d), with autograd through the feature gradient."""
    hat = mask * f
    leaf = f.clone().requires_grad_()
    loss = F.cross_entropy(head(mask * leaf), label)
    (g,) = torch.autograd.grad(loss, leaf, create_graph=True)
    assert hat.shape == g.shape
    low, high = bounds or (g.min().detach(), g.max().detach())
    h = (g - low) / (high - low)
    total = f.new_zeros(())
    for i in range(len(h) - 1):
        norm = (h[i] - h[i + 1]).norm()
        total = total + (norm if objective == "l2" else norm**2)
    return total


@pytest.mark.parametrize("objective", ["l2", "squared"])
def test_closed_form_equals_autograd(objective: str) -> None:
    net = Net().double()
    generator = torch.Generator().manual_seed(1)
    f = torch.rand(7, 12, generator=generator, dtype=torch.float64)
    label = net.head(f).argmax(1)
    mask = (1 + 0.5 * torch.randn(7, 12, generator=generator, dtype=torch.float64)).requires_grad_()
    (slow,) = torch.autograd.grad(slow_objective(f, label, mask, net.head, objective, None), mask)
    with torch.no_grad():
        ours = gradient(f[None], label[None], mask[None], net.head.weight, net.head.bias, objective, None).gradient[0]
    assert (ours - slow).norm() / slow.norm() < 1e-10
    with torch.no_grad():
        single = gradient(
            f.float()[None],
            label[None],
            mask.float()[None],
            net.head.weight.float(),
            net.head.bias.float(),
            objective,
            None,
        ).gradient[0]
    assert (single.double() - slow).norm() / slow.norm() < 1e-5


@pytest.mark.parametrize("optimizer", ["sgd", "plain_gd"])
def test_steps_equal_torchs_own_sgd(optimizer: str) -> None:
    """Three steps on the mask before the clip matters (a tiny alpha), against torch.optim.SGD on the slow objective."""
    model = fixed()
    defence = unig(model, steps=3, alpha=1e-3, delta=1.0, optimizer=optimizer, deterministic_init=True)
    x = images()
    f = model.features(x).detach()
    label = model.head(f).argmax(1)
    mask = torch.ones_like(f).requires_grad_()
    momentum, decay = (0.9, 5e-4) if optimizer == "sgd" else (0.0, 0.0)
    sgd = torch.optim.SGD([mask], lr=1e-3, momentum=momentum, weight_decay=decay)
    leaf = f.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model.head(leaf), label), leaf)
    bounds = (g.min(), g.max())  # of the first step, kept
    for _ in range(3):
        sgd.zero_grad()
        slow_objective(f, label, mask, model.head, "l2", bounds).backward()
        sgd.step()
    with torch.no_grad():
        ours = defence._unify(f[None], label[None], torch.ones_like(f)[None])[0]
        assert (ours - mask).norm() / (mask - 1).norm() < 1e-4
        assert torch.allclose(defence(x, draw(6)), model.head(mask * f), atol=1e-5)


def test_identical_rows_give_no_nan() -> None:
    x = images(1).repeat(6, 1, 1, 1)
    for changes in ({"deterministic_init": True}, {}, {"objective": "squared"}):
        assert torch.isfinite(unig(fixed(), **changes)(x, draw(6))).all()
    f = torch.zeros(1, 4, 12)  # no gradient anywhere: max = min
    net = Net()
    step = gradient(
        f, torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 4, 12), net.head.weight, net.head.bias, "l2", None
    )
    assert (step.gradient == 0).all()


def test_noise_is_fresh_each_query_and_clipped() -> None:
    defence = unig(fixed(), steps=0)
    x = images()
    assert torch.equal(defence(x, draw(6)), defence(x, draw(6)))
    assert not torch.equal(defence(x, draw(6)), defence(x, draw(6, nth=1)))
    mask = defence._noise(draw(6), (12,)).clamp(0.5, 1.5)
    assert mask.min() == 0.5 and mask.max() == 1.5 and 0.3 < mask.std() < 0.45


TRAITS = {
    "none of its own": {"steps": 0},
    "deterministic": {"deterministic_init": True},
    "stay": {},
    "stateful": {"stateful": True},
}


@pytest.mark.parametrize("name", TRAITS)
def test_traits_are_what_an_experiment_shows(name: str) -> None:
    defence = unig(fixed(), **TRAITS[name])
    x, traits = images(), defence.traits
    first = defence(x, draw(6))
    again = defence(x, draw(6, nth=1))
    assert traits.stochastic == (not torch.equal(first, again)) or traits.stateful
    defence.reset()
    defence(x, draw(6))
    assert traits.stateful == (not torch.equal(defence(x, draw(6)), first))
    defence.reset()
    other = x.clone()
    other[5] = images(1, seed=9)[0]
    assert traits.coupled == (not torch.equal(defence(other, draw(6))[:5], first[:5]))
    assert not traits.differentiable and not defence(x.requires_grad_(), draw(6)).requires_grad


def test_companions_make_rows_independent() -> None:
    neighbours = (images(5, seed=3), torch.arange(5))
    defence = unig(fixed(), group={"size": 1, "neighbours": "companions"}, companions=neighbours)
    assert not defence.traits.coupled and defence.group is None and defence.companion_rows == 5
    x = images()
    other = x.clone()
    other[1:] = images(5, seed=9)
    assert torch.equal(defence(x, draw(6))[0], defence(other, draw(6))[0])
    alone = unig(fixed(), group={"size": 6, "neighbours": "stay"})
    batch = torch.cat([x[:1], neighbours[0]])
    f = alone.model.features(batch)[None]
    label = torch.cat([alone.model.head(f[0, :1]).argmax(1), neighbours[1]])[None]
    noise = defence._noise(draw(6), (6, 12))[:1]
    with torch.no_grad():
        slow = alone.model.head((alone._unify(f, label, noise) * f)[0, :1])
    assert torch.allclose(defence(x, draw(6))[:1], slow, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"delta": 0.0}, "delta=0.0"),
        ({"steps": -1}, "steps=-1"),
        ({"objective": "l1"}, "objective=l1"),
        ({"optimizer": "adam"}, "optimizer=adam"),
        ({"group": {"size": 6, "neighbours": "go"}}, "neighbours=go"),
        ({"group": {"size": 1, "neighbours": "companions"}}, "companions needs training images"),
        ({"stateful": True, "steps": 0}, "stateful=true needs"),
    ],
)
def test_bad_settings_are_one_line(changes: dict, line: str) -> None:
    with pytest.raises(BenchError, match=line):
        unig(fixed(), **changes)


def test_rnd_adds_the_noise_it_says() -> None:
    model = fixed()
    x = torch.full((6, 3, 4, 4), 0.5)
    seen: list[Tensor] = []
    model.network.features.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].clone()))
    defence = Rnd(model, input_noise=0.1, output_noise=0.0)
    for nth in range(40):
        defence(x, draw(6, nth=nth))
    noise = torch.stack(seen) - 0.5
    assert abs(float(noise.std()) - 0.1) < 0.003 and abs(float(noise.mean())) < 0.003
    assert defence.traits.stochastic and not Rnd(model, 0.0, 0.0).traits.stochastic
    loud = Rnd(model, input_noise=0.0, output_noise=2.0)
    spread = (torch.stack([loud(x, draw(6, nth=nth)) for nth in range(200)]) - model(x)).detach()
    assert abs(float(spread.std()) - 2.0) < 0.1
    with pytest.raises(BenchError, match=r"input_noise=-0\.1"):
        Rnd(model, -0.1, 0.0)


def test_victim_keys_noise_by_sample_not_by_place() -> None:
    model = fixed(rows=4)
    victim = Victim(Rnd(model, 0.1, 0.0), model, seed=0)
    x, live = images(6), torch.ones(6, dtype=torch.bool)
    straight = victim.query(x, draw(6), live)
    index = torch.tensor([5, 3, 1, 0, 2, 4])
    assert torch.equal(victim.query(x[index], draw(6).rows(index), live), straight[index])


def test_the_last_row_of_a_shrinking_batch_gets_training_images() -> None:
    """With images given, one row left is answered as in group.neighbours=companions; more rows, and none given, as before."""
    pool = images(5, seed=9), torch.tensor([0, 1, 2, 3, 4])
    leaves = {"group": {"size": 6, "neighbours": "leave"}}
    padded, bare = unig(fixed(), companions=pool, **leaves), unig(fixed(), **leaves)
    alone = unig(fixed(), companions=pool, group={"size": 1, "neighbours": "companions"})
    noise = unig(fixed(), steps=0)
    x, one = images(), images(1)
    assert torch.allclose(padded(x, draw(6)), bare(x, draw(6)))
    last = padded(one, draw(1))
    assert torch.allclose(last, alone(one, draw(1)), atol=1e-6) and not torch.allclose(last, bare(one, draw(1)))
    assert torch.allclose(bare(one, draw(1)), noise(one, draw(1)), atol=1e-2)  # weight decay alone moves the mask
    assert padded.traits.coupled and padded.group is not None and padded.added_parameters() == bare.added_parameters()
