"""MultiTargeted PGD breaks at least what PGD of as many descents breaks, and keeps the lowest end."""

import pytest
import torch

from attacks.gradient.multi_targeted import MultiTargeted
from attacks.gradient.pgd import Pgd
from attacks.losses import margin
from attacks.oracles.gradients import Eot, Exact
from bench.core.errors import BenchError
from defenses.rnd import Rnd
from tests.support.scene import Scene
from tests.support.strike import limits, strike


def few(scene: Scene) -> Scene:
    return Scene(scene.network, scene.x[:32], scene.y[:32])


def test_breaks_what_as_many_descents_on_the_margin_break(digits: Scene) -> None:
    limit, scene = limits("linf", "1/15"), few(digits)
    _, ours, _, _ = strike(scene, MultiTargeted(limit, 5, 10, 0.25, 0.75, True))
    _, plain, _, _ = strike(scene, Pgd(limit, 10, 0.25, 0.75, True, 5, "margin", early_stop=False))
    assert ours.sum() >= plain.sum() - 1 and 0 < ours.sum() < 32


def test_more_targets_only_lower_the_margin(digits: Scene) -> None:
    limit, scene = limits("linf", "1/30"), few(digits)
    none = torch.full_like(scene.y, -1)
    left = [
        margin(scene.network(strike(scene, MultiTargeted(limit, n, 5, 0.5, 0.75, False))[0].image), scene.y, none)
        for n in (1, 4)
    ]
    assert (left[1] <= left[0] + 1e-5).all() and (left[1] < left[0] - 1e-4).any()


def test_stays_in_the_ball_and_takes_eot_on_a_random_victim(digits: Scene) -> None:
    limit, scene = limits("l2", "0.6"), few(digits)
    found, _, victim, _ = strike(
        scene, MultiTargeted(limit, 2, 3, 0.5, 0.75, True), lambda model: Rnd(model, 0.05, 0.0),
        lambda victim: Eot(victim, 3, Exact),
    )  # fmt: skip
    assert limit.contains(scene.x, found.image).all() and found.restart.max() <= 1
    assert victim.ledger.totals()["white_box"] == 32 * 3 * (
        1 + 2 * (3 + 1)
    )  # draws x (clean + targets x (steps + end))


def test_more_targets_than_classes_are_refused() -> None:
    with pytest.raises(BenchError, match="attack.targets=9, but there are 4 other classes".replace(".", r"\.")):
        MultiTargeted(limits("linf", "1/30"), 9, 5, 0.5, 0.75, True).check_classes(5)
