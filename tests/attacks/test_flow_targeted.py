"""Targeted flow PGD: against a slow single-image version by autograd; more targets only help; the ball, the ledger, bad input."""

import pytest
import torch
from torch import Tensor

from attacks.losses import margin
from attacks.oracles.gradients import Eot, Exact
from attacks.spatial.flow_targeted import FlowTargeted
from bench.core.errors import BenchError
from bench.core.threat import Threat
from bench.core.warp import warp
from defenses.rnd import Rnd
from tests.support.scene import Scene
from tests.support.strike import limits, strike


def few(scene: Scene, n: int = 24) -> Scene:
    return Scene(scene.network, scene.x[:n], scene.y[:n])


def untargeted(scene: Scene, image: Tensor) -> Tensor:
    with torch.no_grad():
        return margin(scene.network(image), scene.y, torch.full_like(scene.y, -1))


def slow(scene: Scene, i: int, targets: int, steps: int, step: float, eps: float) -> float:
    """One image: from v = 0 down the difference of the best other logit and the target's, to each target; the lowest margin."""
    x, y = scene.x[i : i + 1], int(scene.y[i])
    with torch.no_grad():
        likeliest = [k for k in scene.network(x)[0].argsort(descending=True).tolist() if k != y][:targets]
    ends = []
    for target in likeliest:
        flow = torch.zeros(1, *x.shape[2:], 2)
        for _ in range(steps):
            leaf = flow.clone().requires_grad_()
            logits = scene.network(warp(x, leaf))[0]
            others = torch.cat([logits[:target], logits[target + 1 :]])
            slope = torch.autograd.grad(others.max() - logits[target], leaf)[0]
            flow = (flow - step * eps * slope.sign()).clamp(-eps, eps)
        with torch.no_grad():
            logits = scene.network(warp(x, flow))[0]
        ends.append(float(logits[y] - torch.cat([logits[:y], logits[y + 1 :]]).max()))
    return min(ends)


def test_is_the_slow_one(digits: Scene) -> None:
    scene = few(digits, 12)
    found, _, _, _ = strike(scene, FlowTargeted(limits("flow_linf", "1/4"), 3, 3, 0.5, 0.0, False))
    ours = untargeted(scene, found.image)
    theirs = torch.tensor([slow(scene, i, 3, 3, 0.5, 0.25) for i in range(12)])
    # a slope of 0 but for rounding may take either sign
    assert ((ours - theirs).abs() < 0.05).float().mean() >= 0.75 and (ours - theirs).abs().median() < 1e-3
    assert found.flow is not None and torch.equal(found.image, warp(scene.x, found.flow))


def test_more_targets_only_lower_the_margin(digits: Scene) -> None:
    limit, scene = limits("flow_linf", "1/4"), few(digits)
    left = [untargeted(scene, strike(scene, FlowTargeted(limit, n, 5, 0.5, 0.75, False))[0].image) for n in (1, 4)]
    assert (left[1] <= left[0] + 1e-5).all() and (left[1] < left[0] - 1e-4).any()


def test_stays_in_the_ball_and_takes_eot_on_a_random_victim(digits: Scene) -> None:
    limit, scene = limits("flow_linf", "1/2"), few(digits)
    found, _, victim, _ = strike(
        scene, FlowTargeted(limit, 2, 3, 0.5, 0.75, True), lambda model: Rnd(model, 0.05, 0.0),
        lambda victim: Eot(victim, 3, Exact),
    )  # fmt: skip
    assert found.flow is not None and 0.25 < found.flow.abs().max() <= 0.5 and found.restart.max() == 1
    assert victim.ledger.totals()["white_box"] == 24 * 3 * (
        1 + 2 * (3 + 1)
    )  # draws x (clean + targets x (steps + end))


@pytest.mark.parametrize(
    ("limit", "targets", "words"),
    [
        (limits("linf", "1/30"), 2, "flow_linf"),
        (limits("flow_linf", "1/2"), 0, "attack.targets=0 must be at least 1"),
        (limits("flow_linf", "1/2", "random"), 2, "threat.goal=random"),
    ],
)
def test_what_makes_no_sense_is_refused(limit: Threat, targets: int, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        FlowTargeted(limit, targets, 5, 0.5, 0.75, True)


def test_more_targets_than_classes_are_refused() -> None:
    with pytest.raises(BenchError, match=r"attack\.targets=9, but there are 4 other classes"):
        FlowTargeted(limits("flow_linf", "1/2"), 9, 5, 0.5, 0.75, True).check_classes(5)
