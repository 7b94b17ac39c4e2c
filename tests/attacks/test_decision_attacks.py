"""GenAttack against foolbox (HopSkipJump: test_hopskipjump.py), RayS against a slow version; both on a linear victim."""

from fractions import Fraction
from typing import Any

import foolbox
import numpy as np
import pytest
import torch
from torch import Tensor

from attacks.query.blocks import blocks, period
from attacks.query.genattack import GenAttack
from attacks.query.hopskipjump import HopSkipJump
from attacks.query.rays import Rays
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys
from bench.core.threat import Threat
from bench.report.values import share
from tests.support.scene import Scene


def threat(norm: str, eps: str, queries: int, goal: str = "untargeted", feedback: str = "logits") -> Threat:
    return Threat(norm, Fraction(eps), queries, feedback, goal)  # type: ignore[arg-type]


@torch.no_grad()
def walk(attack: Any, network: Any, x: Tensor, y: Tensor, target: Tensor, queries: int) -> tuple[Tensor, list[Tensor]]:
    """The least distance (B,) of a fooling query in the threat's norm, and its course."""
    state, best, course = attack.start(x, y, target, keys(0, Stream.ATTACK, torch.arange(len(y)))), None, []
    for _ in range(queries):
        asked = attack.query(state)
        assert asked.min() >= 0 and asked.max() <= 1
        label = network(asked).argmax(1)
        fools = torch.where(target >= 0, label == target, label != y)
        far = torch.where(fools, attack.threat.distance(x, asked), torch.inf)
        best = far if best is None else torch.minimum(best, far)
        course.append(best)
        state = attack.observe(state, asked, label)
    assert best is not None
    return best, course


def linear(d: int = 64) -> tuple[Any, Tensor, Tensor, dict[str, Tensor]]:
    """A two-class linear victim: its least l2 and linf distances are known."""
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(d, generator=generator) + 0.5  # a ray of equal signs fools, too: RayS needs a start
    x = 0.5 + 0.05 * torch.randn(20, 1, 8, 8, generator=generator)
    offset = (x.flatten(1) @ direction).mean() - 0.4 * direction.norm()

    def network(image: Tensor) -> Tensor:
        score = image.flatten(1) @ direction - offset
        return torch.stack([score, -score], 1)

    score = x.flatten(1) @ direction - offset
    assert (score > 0).all()
    least = {"l2": score / direction.norm(), "linf": score / direction.abs().sum()}
    return network, x, torch.zeros(len(x), dtype=torch.int64), least


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_hopskipjump_nears_the_known_distance(norm: str) -> None:
    network, x, y, least = linear()
    best, course = walk(HopSkipJump(threat(norm, "1/100000", 4000), 100, 10_000, 1.0), network, x, y, y - 1, 4000)
    ratio = best / least[norm]
    assert (ratio >= 0.999).all() and ratio.median() < 1.2
    assert course[-1].mean() < course[500].mean() < course[120].mean()


def test_rays_nears_the_known_distance() -> None:
    network, x, y, least = linear()
    best, _ = walk(Rays(threat("linf", "1/100000", 1500), 0.0001), network, x, y, y - 1, 1500)
    ratio = best / least["linf"]
    assert (ratio >= 0.999).all() and ratio.median() < 1.02


def slow_rays(network: Any, x: Tensor, y: int, tolerance: float, budget: int) -> list[Tensor]:
    """Algorithm 3 for one image, in the order of its text -> all its queries."""
    asked: list[Tensor] = []

    def fools(signs: Tensor, radius: float) -> bool:
        if len(asked) == budget:
            raise StopIteration
        asked.append((x + torch.tensor(radius) * signs.view_as(x)).clamp(0, 1))
        return int(network(asked[-1][None]).argmax()) != y

    best, radius, d = torch.ones(x.numel()), 1.0, x.numel()
    try:
        while True:
            for level in range(int(np.ceil(np.log2(d))) + 1):
                chunk = -(-d // 2**level)
                for start in range(0, d, chunk):
                    trial = best.clone()
                    trial[start : start + chunk] *= -1
                    if not fools(trial, radius):
                        continue
                    low, high = 0.0, radius
                    while high - low > tolerance:
                        middle = (low + high) / 2
                        low, high = (low, middle) if fools(trial, middle) else (middle, high)
                    best, radius = trial, high
    except StopIteration:
        return asked


@torch.no_grad()
def test_rays_asks_what_a_slow_version_asks(digits: Scene) -> None:
    x, y = digits.x[:20], digits.y[:20]
    attack = Rays(threat("linf", "1/100000", 200), 2**-10)  # halves of 1 are exact in float32
    state, ours = attack.start(x, y, y, keys(0, Stream.ATTACK, y)), []
    for _ in range(200):
        ours.append(attack.query(state))
        state = attack.observe(state, ours[-1], digits.network(ours[-1]).argmax(1))
    for i in range(20):
        theirs = slow_rays(digits.network, x[i], int(y[i]), 2**-10, 200)
        assert torch.allclose(torch.stack(theirs), torch.stack([each[i] for each in ours]), atol=1e-5)


@pytest.mark.parametrize("scene", ["digits", "cifar"])
def test_genattack_succeeds_as_often_as_foolboxs(scene: str, request: pytest.FixtureRequest) -> None:
    found: Scene = request.getfixturevalue(scene)
    eps, generations = ("1/4", 30) if scene == "digits" else ("24/255", 6)
    target = (found.y + 1) % 10
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - foolbox draws from it
    theirs = foolbox.attacks.GenAttack(steps=generations, population=10, mutation_probability=0.1, channel_axis=1)
    model = foolbox.PyTorchModel(found.network.eval(), bounds=(0, 1), device="cpu")
    _, _, fooled = theirs(model, found.x, foolbox.TargetedMisclassification(target), epsilons=[float(Fraction(eps))])
    limits = threat("linf", eps, 10 * generations, "random")
    ours = found.play(GenAttack(limits, 10, 0.1, 0.15, 0.3, True, None), limits, target=target)
    interval = share(int(ours.fooled.sum()), len(target))
    assert interval.low <= 100 * float(fooled[0].float().mean()) <= interval.high, (interval, fooled[0].float().mean())
    assert 2 < interval.value < 98 or scene == "cifar"
    assert limits.contains(found.x, ours.found).all()


def test_genattack_untargeted_beats_its_first_generation_and_reduces(digits: Scene) -> None:
    limits = threat("linf", "1/8", 120)
    one = digits.play(GenAttack(threat("linf", "1/8", 6), 6, 0.1, 0.15, 0.3, True, None), threat("linf", "1/8", 6))
    many = digits.play(GenAttack(limits, 6, 0.1, 0.15, 0.3, True, None), limits)
    small = digits.play(GenAttack(limits, 6, 0.1, 0.15, 0.3, True, 4), limits)
    assert many.fooled.float().mean() > one.fooled.float().mean() + 0.05
    assert small.fooled.float().mean() > one.fooled.float().mean()


def test_hopskipjump_targeted_begins_at_images_of_the_target(digits: Scene) -> None:
    target = (digits.y + 3) % 10
    attack = HopSkipJump(threat("l2", "1", 300, "random"), 20, 100, 1.0, starts=(digits.x, digits.y))
    best, course = walk(attack, digits.network, digits.x, digits.y, target, 300)
    assert torch.isfinite(best).all() and best.mean() < 0.7 * course[2].mean()
    short = HopSkipJump(threat("l2", "1", 300, "random"), 20, 100, 1.0, starts=(digits.x[:5], digits.y[:5]))
    with pytest.raises(BenchError, match="no start of class"):
        walk(short, digits.network, digits.x, digits.y, target, 1)


def test_blocks_cover_every_pixel_once_a_level() -> None:
    for d in (7, 64, 3072):
        table = blocks(d, period(d) + 3)
        covered = torch.zeros(d)
        for start, end in table[: period(d)].tolist():
            covered[start:end] += 1
        assert (covered == (d - 1).bit_length() + 1).all() and torch.equal(table[-3:], table[:3])
    assert blocks(150_528, 2500).shape == (2500, 2)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Rays(threat("l2", "1", 9), 0.1), "rays has no threat.norm=l2"),
        (lambda: Rays(threat("linf", "1/9", 9, "random"), 0.1), "rays has no threat.goal=random"),
        (lambda: Rays(threat("linf", "1/9", 9), 0.0), "tolerance=0.0"),
        (lambda: HopSkipJump(threat("l1", "1", 9), 100, 1000, 1.0), "hopskipjump has no threat.norm=l1"),
        (lambda: HopSkipJump(threat("l2", "1", 9, "random"), 100, 1000, 1.0), "needs.starts"),
        (lambda: HopSkipJump(threat("l2", "1", 9), 100, 10, 1.0), "max_probes=10"),
        (lambda: GenAttack(threat("l2", "1", 90), 6, 0.1, 0.1, 0.3, False, None), "genattack has no threat.norm=l2"),
        (
            lambda: GenAttack(threat("linf", "1/9", 5), 6, 0.1, 0.1, 0.3, False, None),
            "population=6 answers, threat.queries=5",
        ),
        (lambda: GenAttack(threat("linf", "1/9", 50), 6, 1.1, 0.1, 0.3, False, None), "mutation_probability=1.1"),
    ],
)
def test_bad_settings_are_one_line(make: Any, line: str) -> None:
    with pytest.raises(BenchError, match=line):
        make()


def test_a_smaller_perturbation_must_fit_the_image(digits: Scene) -> None:
    limits = threat("linf", "1/9", 20)
    with pytest.raises(BenchError, match="reduced=9 does not fit images of 8x8"):
        digits.play(GenAttack(limits, 6, 0.1, 0.1, 0.3, False, 9), limits)
