"""APGD of our own: the engine's schedule and strength, with rows that know nothing of each other."""

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

from attacks.gradient.apgd import Apgd, checkpoints
from attacks.gradient.pgd import Pgd
from attacks.losses import margin
from attacks.oracles.gradients import Eot, Exact
from bench.core.errors import BenchError
from bench.core.threat import Threat
from defenses.rnd import Rnd
from tests.support.scene import Scene
from tests.support.strike import limits, strike


def apgd(limit: Threat, steps: int = 30, loss: str = "cross_entropy", **changes: int) -> Apgd:
    return Apgd(limit, **{"steps": steps, "restarts": 1, "targets": 0, "loss": loss, "early_stop": True} | changes)  # pyright: ignore


@pytest.mark.parametrize("steps", [40, 100, 400])
def test_checkpoints_are_the_engines(steps: int) -> None:
    """Theirs counts down a gap that shrinks from 22% by 3% to 6%."""
    gap, least, shrink = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    theirs, at = [], gap
    while at < steps:
        theirs.append(at)
        gap = max(gap - shrink, least)
        at += gap
    ours = list(checkpoints(steps))
    assert abs(len(ours) - len(theirs)) <= 2
    if steps == 100:
        assert ours == [22, 41, 57, 70, 80, 87, 93, 99] == theirs


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("targets", [0, 9])
def test_as_strong_as_the_engines(digits: Scene, norm: str, targets: int) -> None:
    """On the same images, within four of 64, and stronger than one PGD of as many steps."""
    limit = limits(norm, {"linf": "1/16", "l2": "0.35"}[norm])
    scene = digits.first(64)
    more: dict = {"targets": targets, "loss": "dlr"} if targets else {}
    found, ours, _, _ = strike(scene, apgd(limit, 40, **more))
    engine = (APGDAttack_targeted if targets else APGDAttack)(
        scene.network, n_iter=40, norm={"linf": "Linf", "l2": "L2"}[norm], n_restarts=1, eps=limit.radius, seed=0,
        device=torch.device("cpu"), **({"n_target_classes": 9} if targets else {"loss": "ce"}),
    )  # fmt: skip
    if targets:
        engine.loss = "dlr-targeted"
    theirs = scene.network(engine.perturb(scene.x, scene.y)).argmax(1) != scene.y
    assert abs(int(ours.sum()) - int(theirs.sum())) <= 4 and 8 < ours.sum() < 60, (ours.sum(), theirs.sum())
    plain = strike(scene, Pgd(limit, 40, 0.0625, 0.0, True, 1, "cross_entropy", early_stop=True))[1]
    assert ours.sum() >= plain.sum() - 2
    assert limit.contains(scene.x, found.image).all()


def test_a_rows_image_does_not_depend_on_who_else_is_there(digits: Scene) -> None:
    limit, scene = limits("linf", "1/16"), digits.first(24)
    whole = strike(scene, apgd(limit, 20, targets=3, loss="dlr"))[0].image
    few = strike(scene.first(7), apgd(limit, 20, targets=3, loss="dlr"))[0].image
    assert torch.equal(whole[:7], few)


def test_what_is_kept_is_the_lowest_end_and_more_runs_only_lower_it(digits: Scene) -> None:
    limit, scene = limits("linf", "1/30"), digits.first(32)
    none = torch.full_like(scene.y, -1)
    left = [
        margin(
            scene.network(strike(scene, apgd(limit, 10, "margin", early_stop=0, restarts=n))[0].image), scene.y, none
        )
        for n in (1, 4)
    ]
    assert (left[1] <= left[0] + 1e-5).all() and (left[1] < left[0] - 1e-4).any()


def test_a_lucky_draw_does_not_stop_it(digits: Scene) -> None:
    limit, scene = limits("linf", "1/12"), digits.first(16)
    found, _, victim, _ = strike(
        scene, apgd(limit, 5, early_stop=0, targets=2), lambda model: Rnd(model, 0.05, 0.0), lambda victim: Eot(victim, 3, Exact),
    )  # fmt: skip
    assert victim.ledger.totals()["white_box"] == 16 * 3 * (
        1 + 2 * (5 + 1)
    )  # draws x (clean + targets x (steps + end))
    assert found.restart.max() <= 1


def test_a_targeted_threat_is_met(digits: Scene) -> None:
    target = (digits.y + 3) % 10
    found, hit, _, _ = strike(digits, apgd(limits("linf", "0.3", "random"), 40), target=target)
    assert hit.float().mean() > 0.9
    assert (digits.network(found.image).argmax(1)[hit] == target[hit]).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 1}, "attack.steps=1"),
        ({"loss": "hinge"}, "attack.loss=hinge is unknown"),
        ({"targets": -1}, "attack.targets=-1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        apgd(limits("linf", "1/12"), **changes)


def test_classes_and_goals_that_it_does_not_fit_are_refused() -> None:
    with pytest.raises(BenchError, match="there are 4 other classes"):
        apgd(limits("linf", "1/12"), targets=9).check_classes(5)
    with pytest.raises(BenchError, match=r"with attack\.targets=2 APGD chooses its own"):
        apgd(limits("linf", "1/12", "random"), targets=2)
    with pytest.raises(BenchError, match=r"APGD has no threat\.norm=l1"):
        apgd(limits("l1", "3"))
