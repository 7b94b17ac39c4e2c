"""GenAttack against foolbox's, image by image in generations; the elite never gets worse; its records."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import foolbox
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from attacks.query.genattack import GenAttack
from bench.core.rng import Stream, keys
from bench.core.threat import Threat
from bench.report import values
from bench.run import cell
from bench.store.records import Cell
from tests.support.scene import Scene


def foolboxs(scene: Scene, i: int, target: Tensor, eps: float, members: int, generations: int) -> tuple[bool, int]:
    """Success on one image and the generations that took."""
    asked = 0

    class Counted(torch.nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            nonlocal asked
            asked += len(image)
            return scene.network(image)

    theirs = foolbox.attacks.GenAttack(steps=generations, population=members, channel_axis=1)
    model = foolbox.PyTorchModel(Counted().eval(), bounds=(0, 1), device="cpu")
    aim = foolbox.TargetedMisclassification(target[i : i + 1])
    end = theirs.run(model, scene.x[i : i + 1], aim, epsilon=eps)
    took = asked // members
    return bool(scene.network(end).argmax(1) == target[i]), took


@pytest.mark.parametrize(
    ("name", "images", "eps", "members", "generations"), [("digits", 60, "1/4", 6, 25), ("cifar", 20, "24/255", 6, 8)]
)
def test_needs_as_many_generations_as_foolboxs(
    name: str, images: int, eps: str, members: int, generations: int, request: pytest.FixtureRequest
) -> None:
    whole: Scene = request.getfixturevalue(name)
    scene = Scene(whole.network, whole.x[:images], whole.y[:images])
    with torch.no_grad():
        target = scene.network(scene.x).topk(2, 1).indices[:, 1]  # the runner-up: near enough for so few generations
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 (foolbox draws parents from it)
        pairs = [foolboxs(scene, i, target, float(Fraction(eps)), members, generations) for i in range(images)]
    fooled, took = (torch.tensor(each) for each in zip(*pairs, strict=True))
    limits = Threat("linf", Fraction(eps), members * generations, "logits", "runner_up")
    ours = scene.play(GenAttack(limits, members, 0.1, 0.15, 0.3, True, None), limits, target=target)
    spent = (ours.queries + members - 1) // members
    assert 0.15 < ours.fooled.float().mean() < 0.97 or name == "cifar"
    for a, b, least in ((ours.fooled, fooled, 0.02), (spent, took, 0.02 * generations)):
        gap = values.mean((a.double() - b.double()).numpy())
        print(name, f"ours {a.float().mean():.3f} foolbox {b.float().mean():.3f}", gap)
        assert gap.low <= 0 <= gap.high or abs(gap.value) <= least, gap


@pytest.mark.parametrize("reduced", [None, 4])
@torch.no_grad()
def test_the_elite_never_gets_worse_and_every_member_stays_in_the_ball(reduced: int | None, digits: Scene) -> None:
    x, y = digits.x[:30], digits.y[:30]
    limits = Threat("linf", Fraction(1, 8), 120, "logits", "untargeted")
    attack = GenAttack(limits, 6, 0.1, 0.15, 0.3, True, reduced)
    state, best = attack.start(x, y, y * 0 - 1, keys(0, Stream.ATTACK, torch.arange(30))), []
    for t in range(120):
        asked = attack.query(state)
        assert limits.contains(x, asked).all()
        state = attack.observe(state, asked, digits.network(asked))
        if t % 6 == 5:
            best.append(state.fitness.amax(1))
    course = torch.stack(best, 1)
    assert (course.diff(dim=1) >= -1e-4).all()  # asked anew in another place of the batch: float32
    assert (course[:, -1] > course[:, 0]).float().mean() > 0.9


def frame_of(config: dict[str, Any]) -> pd.DataFrame:
    return Cell(Path(config["store"]), cell.run(config)).frame().drop(columns=["seconds"])


CASES = {
    "none": [],
    "rnd": ["defense=rnd"],
    "targeted": ["threat.goal=runner_up", "threat.eps=1/5"],
    "reduced": ["attack.reduced=4"],
}


@pytest.mark.parametrize("case", CASES)
def test_records_do_not_depend_on_slots(case: str, compose: Any, tmp_path: Path) -> None:
    common = [
        "attack=genattack",
        "samples.n=40",
        "threat.queries=120",
        "numerics.rows=8",
        "recipe.epochs=5",
        "threat.eps=1/8",
        *CASES[case],
    ]
    merged = list({o.partition("=")[0]: o for o in common}.values())
    reference = frame_of(compose(*merged, "slots=64"))
    assert 3 < reference["fooled"].sum() < 40
    for slots in (8, 24):
        again = frame_of(compose(*merged, f"slots={slots}", store=tmp_path / f"slots{slots}"))
        pd.testing.assert_frame_equal(reference, again, check_exact=True)
