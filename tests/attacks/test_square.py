"""Square: its ball, its schedule against AutoAttack's, its optimum on a linear victim, its agreement on real images."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from pyautoattack.square import SquareAttack

from attacks.losses import LOSSES, margin
from attacks.query.square import Square, _etas, _halvings, _sides
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys
from bench.core.threat import Threat


def threat(norm: str = "linf", eps: str = "1/10", queries: int = 300, goal: str = "untargeted") -> Threat:
    return Threat(norm, Fraction(eps), queries, "logits", goal)  # type: ignore[arg-type]


def play(square: Square, weight: torch.Tensor, x: torch.Tensor, y: torch.Tensor, target: torch.Tensor, steps: int):
    """All queries asked of a linear victim, and the last state."""
    state = square.start(x, y, target, keys(0, Stream.ATTACK, torch.arange(len(x))))
    asked = []
    for _ in range(steps):
        asked.append(square.query(state))
        state = square.observe(state, asked[-1], asked[-1].flatten(1) @ weight.T)
    return asked, state


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 20, 28)])
def test_every_query_lies_in_the_ball(norm: str, shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(6, *shape, generator=generator)
    limits = threat(norm, "1/10" if norm == "linf" else "1")
    weight = torch.randn(4, x[0].numel(), generator=generator)
    y = (x.flatten(1) @ weight.T).argmax(1)
    square = Square(limits, p_init=0.3, loss="margin", horizon=None)
    asked, state = play(square, weight, x, y, torch.full_like(y, -1), 60)
    assert all(limits.contains(x, each).all() for each in asked)
    first, last = asked[0].flatten(1) @ weight.T, state.best.flatten(1) @ weight.T
    none = torch.full_like(y, -1)
    assert (margin(last, y, none) <= margin(first, y, none)).all() and (state.loss == margin(last, y, none)).all()
    used = limits.distance(x, state.best)
    assert (used > 0.7 * limits.radius).all()  # the box [0, 1] takes some of an l2 step


def test_linf_reaches_the_optimum_of_a_linear_victim() -> None:
    """In the box's middle the best linf step is known: eps times the sign of the gradient."""
    generator = torch.Generator().manual_seed(2)
    x = torch.full((4, 1, 6, 6), 0.5)
    direction = torch.randn(36, generator=generator)
    weight = torch.stack([direction, torch.zeros(36)])
    y, none = torch.zeros(4, dtype=torch.int64), torch.full((4,), -1)
    square = Square(threat(queries=3000), p_init=0.5, loss="margin", horizon=None)
    _, state = play(square, weight, x, y, none, 3000)
    optimum = float(0.5 * direction.sum() - 0.1 * direction.abs().sum())
    assert torch.allclose(state.loss, torch.full((4,), optimum), atol=1e-4)


def test_targeted_goes_to_the_target_and_cross_entropy_is_a_probability() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(8, 3, 8, 8, generator=generator)
    weight = torch.randn(5, 192, generator=generator)
    y = (x.flatten(1) @ weight.T).argmax(1)
    target = (y + 2) % 5
    for loss in ("margin", "cross_entropy"):
        _, state = play(Square(threat(eps="1/2", goal="random"), 0.3, loss, None), weight, x, y, target, 300)
        assert ((state.best.flatten(1) @ weight.T).argmax(1) == target).all()
    logits = torch.randn(8, 5, generator=generator)
    slow = torch.tensor([-torch.softmax(row.double(), 0)[t].log() for row, t in zip(logits, target, strict=True)])
    assert torch.allclose(LOSSES["cross_entropy"](logits, y, target).double(), slow, atol=1e-5)


@pytest.mark.parametrize("budget", [100, 2500, 10_000])
def test_schedule_is_autoattacks(budget: int) -> None:
    theirs = SquareAttack(lambda x: x, n_queries=budget, p_init=0.8)
    ours = Square(threat(queries=budget), 0.8, "margin", None)
    stages = ours._stage(torch.arange(1, budget)).tolist()
    assert [0.8 / 2**k for k in stages] == [theirs.p_selection(i) for i in range(budget - 1)]
    assert len(_halvings()) + 1 == len(_sides(0.8, 32, 32, 1, False))


def test_l2_blobs_have_unit_norm_and_two_signs() -> None:
    table = _etas(0.1, 32, 32)
    assert torch.allclose(table.flatten(1).norm(dim=1), torch.ones(20), atol=1e-5)
    assert (table.flatten(1).amax(1) > 0).all() and (table.flatten(1).amin(1) < 0).all()
    assert torch.equal(table[10:], table[:10].transpose(1, 2))


def test_a_horizon_makes_it_anytime() -> None:
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    weight = torch.randn(4, 192, generator=torch.Generator().manual_seed(5))
    y = (x.flatten(1) @ weight.T).argmax(1)
    none = torch.full_like(y, -1)
    short, long = (Square(threat(queries=q), 0.3, "margin", 400) for q in (50, 400))
    assert short.anytime and not Square(threat(), 0.3, "margin", None).anytime
    for a, b in zip(play(short, weight, x, y, none, 50)[0], play(long, weight, x, y, none, 50)[0], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"threat": threat("l1")}, "square has no threat.norm=l1"),
        ({"p_init": 0.0}, "p_init=0.0"),
        ({"loss": "magrin"}, "did you mean 'margin'"),
        ({"horizon": 10}, "horizon=10 must reach"),
    ],
)
def test_bad_settings_are_one_line(settings: dict, line: str) -> None:
    with pytest.raises(BenchError, match=line):
        Square(**({"threat": threat(), "p_init": 0.8, "loss": "margin", "horizon": None} | settings))


@pytest.mark.parity
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_agrees_with_autoattack_on_f_b(norm: str, bench_data: Path, bench_weights: Path, tmp_path: Path) -> None:
    """A small version of scripts/agreement.py, whose full run is in results/."""
    from scripts.agreement import compare

    overrides = [
        "dataset=cifar10_jpeg", f"dataset.root={bench_data}", "model=vgg_fb_adv", f"model.build.root={bench_weights}",
        "threat=linf_8" if norm == "linf" else "threat=l2_1", f"artifacts={tmp_path}", "device=cpu",
    ]  # fmt: skip
    ours, theirs = compare(overrides, images=80, budget=100)
    assert ours.low <= theirs.value <= ours.high
    assert ours.value < 70
