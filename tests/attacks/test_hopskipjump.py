"""HopSkipJump against foolbox's, image by image from the same start; its records."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import foolbox
import pandas as pd
import pytest
import torch
from torch import Tensor

from attacks.query.hopskipjump import PROBE, HopSkipJump
from bench.core.rng import Stream, keys, mix, uniform
from bench.core.threat import Threat
from bench.report import values
from bench.run import cell
from bench.store.records import Cell
from tests.support.scene import Scene

NEVER = "1/100000"  # a ball that no query of the walk lies in, so it never ends


def limits(norm: str, goal: str = "untargeted") -> Threat:
    return Threat(norm, Fraction(NEVER), 10_000, "label", goal)  # type: ignore[arg-type]


@torch.no_grad()
def starts(scene: Scene, tries: int = 40) -> tuple[Tensor, Tensor]:
    """The images for which keyed noise fools within `tries`: their index, and the noise."""
    key, label = keys(0, Stream.ATTACK, torch.arange(len(scene.y))), scene.y
    noise = [uniform(mix(key, torch.full_like(label, t)), *scene.x.shape[1:]) for t in range(tries)]
    fools = torch.stack([scene.network(each).argmax(1) != label for each in noise], 1)  # (B,tries)
    index, first = fools.any(1).nonzero()[:, 0], fools.long().argmax(1)
    return index, torch.stack(noise, 1)[index, first[index]]


def foolboxs(scene: Scene, norm: str, i: int, start: Tensor, steps: int, probes: int) -> tuple[float, int]:
    """Its distance for one image and the answers that took, less those to the questions of its assertions."""
    asked = 0

    class Counted(torch.nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            nonlocal asked
            asked += len(image)
            return scene.network(image)

    theirs = foolbox.attacks.HopSkipJumpAttack(steps=steps, initial_gradient_eval_steps=probes, constraint=norm)  # type: ignore[arg-type]
    model = foolbox.PyTorchModel(Counted().eval(), bounds=(0, 1), device="cpu")
    x, y = scene.x[i : i + 1], scene.y[i : i + 1]
    end = theirs.run(model, x, foolbox.Misclassification(y), starting_points=start[None])
    return float(limits(norm).distance(x, end)), asked - 2 - 2 * steps


@torch.no_grad()
def ours(scene: Scene, norm: str, index: Tensor, start: Tensor, steps: int, probes: int) -> tuple[Tensor, Tensor]:
    """(B,) distances of the boundary points after `steps` iterations, (B,) the answers that took."""
    x, y = scene.x[index], scene.y[index]
    attack = HopSkipJump(limits(norm), probes, 10_000, 1.0)
    state = attack.start(x, y, y * 0 - 1, keys(0, Stream.ATTACK, index))
    state = state._replace(**attack._to_search(state, torch.ones_like(y, dtype=torch.bool), start))
    far, spent = torch.full((len(y),), torch.inf, dtype=torch.float64), torch.zeros_like(y)
    while far.isinf().any():
        asked = attack.query(state)
        state = attack.observe(state, asked, scene.network(asked).argmax(1))
        arrived = (state.turn == steps + 1) & (state.phase == PROBE) & far.isinf()
        far = torch.where(arrived, attack.threat.distance(x, state.point), far)
        spent = torch.where(arrived, state.t, spent)
    return far, spent


PAIRS = [("digits", 60, 4, 40), ("digits", 200, 4, 40), ("cifar", 100, 3, 20)]


@pytest.mark.parity
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize(("name", "images", "steps", "probes"), PAIRS)
def test_comes_as_near_as_foolboxs_with_as_many_answers(
    norm: str, name: str, images: int, steps: int, probes: int, parity: int | None, request: pytest.FixtureRequest
) -> None:
    """An equivalence: the whole 95% interval of the ratio lies within 10% of 1. Zero difference is not expected: foolbox takes
    its probes' length from the distance after the search, we from that before it, which alone brings us 1% nearer
    (l2, digits, 60 images, 8 seeds: -0.0101 [-0.0139, -0.0063] of the logarithm)."""
    if images > 60 and not parity:
        pytest.skip("minutes, foolbox walks image by image: --parity=N")
    scene: Scene = request.getfixturevalue(name)
    index, noise = (each[:images] for each in starts(scene))
    assert len(index) >= 0.8 * images  # some classes are what noise looks like
    torch.manual_seed(0)
    pairs = [foolboxs(scene, norm, int(i), each, steps, probes) for i, each in zip(index, noise, strict=True)]
    theirs, asked = (torch.tensor(each, dtype=torch.float64) for each in zip(*pairs, strict=True))
    far, spent = ours(scene, norm, index, noise, steps, probes)
    ratio, more = values.mean((far / theirs).log().numpy()), values.mean((spent / asked).log().numpy())
    print(name, norm, f"{asked.mean():.0f} answers; distance", ratio, "answers", more)
    assert ratio.low > -0.1 and ratio.high < 0.1, ratio
    assert more.low > -0.05 and more.high < 0.05, more


def test_untargeted_needs_no_starts_and_minds_none() -> None:
    x, y = torch.rand(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64)
    with_starts, without = (HopSkipJump(limits("l2"), 5, 10, 1.0, starts) for starts in ((x, y), None))
    first = [each.query(each.start(x, y, y - 1, keys(0, Stream.ATTACK, y))) for each in (with_starts, without)]
    assert torch.equal(*first)


def frame_of(config: dict[str, Any]) -> pd.DataFrame:
    return Cell(Path(config["store"]), cell.run(config)).frame().drop(columns=["seconds"])


CASES = {
    "l2": ["threat.norm=l2", "threat.eps=1"],
    "linf": ["threat.norm=linf", "threat.eps=1/7"],
    "rnd": ["threat.norm=l2", "threat.eps=1", "defense=rnd"],
    "targeted": ["threat.norm=l2", "threat.eps=2", "threat.goal=random", "+attack.needs.starts={split: train, n: 200}"],
}


@pytest.mark.parametrize("case", CASES)
def test_records_do_not_depend_on_slots(case: str, compose: Any, tmp_path: Path) -> None:
    common = [
        "attack=hopskipjump",
        "samples.n=40",
        "threat.queries=150",
        "numerics.rows=8",
        "recipe.epochs=5",
        "attack.initial_probes=10",
    ]
    common += ["threat.feedback=label", *CASES[case]]
    reference = frame_of(compose(*common, "slots=64"))
    assert 5 < reference["fooled"].sum() < 40
    for slots in (8, 24):
        again = frame_of(compose(*common, f"slots={slots}", store=tmp_path / f"slots{slots}"))
        pd.testing.assert_frame_equal(reference, again, check_exact=True)


def test_a_row_does_not_depend_on_its_neighbours_phases() -> None:
    """Each row alone asks what it asks in company, though the company is in other phases and of another age."""
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    key, y = keys(0, Stream.ATTACK, torch.arange(6)), torch.zeros(6, dtype=torch.int64)
    attack = HopSkipJump(limits("l2"), 5, 100, 1.0)
    replies = (uniform(key, 200) < 0.4).long()  # label 1 fools
    together, state = [], attack.start(x, y, y - 1, key)
    seen: set[tuple[int, ...]] = set()
    for t in range(200):
        seen.add(tuple(sorted(set(state.phase.tolist()))))
        together.append(attack.query(state))
        state = attack.observe(state, together[-1], replies[:, t])
    assert any(len(phases) > 2 for phases in seen)
    for i in range(6):
        alone = attack.start(x[i : i + 1], y[i : i + 1], y[i : i + 1] - 1, key[i : i + 1])
        for t in range(200):
            asked = attack.query(alone)
            assert torch.equal(asked[0], together[t][i]), (i, t)
            alone = attack.observe(alone, asked, replies[i : i + 1, t])
