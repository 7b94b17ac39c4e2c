"""SimBA, SignHunter, NES and Bandits against slow single-image versions with random numbers of their own."""

from fractions import Fraction
from functools import partial
from typing import Any

import pytest
import torch

from attacks.query.bandits import Bandits
from attacks.query.nes import Nes
from attacks.query.noise import Noise
from attacks.query.signhunter import SignHunter
from attacks.query.simba import Simba, _coordinates
from bench.core.errors import BenchError
from bench.core.threat import Threat
from tests.support import slow_attacks as slow
from tests.support.scene import Scene, agree


def threat(norm: str, eps: str, queries: int, goal: str = "untargeted") -> Threat:
    return Threat(norm, Fraction(eps), queries, "logits", goal)  # type: ignore[arg-type]


def simba(limits: Threat, basis: str = "pixel", freq_dims: int | None = None, order: str = "random") -> Simba:
    return Simba(limits, basis, 0.2, freq_dims, order, 7)  # type: ignore[arg-type]


def nes(limits: Threat, lr: float = 0.02) -> Nes:
    return Nes(limits, "cross_entropy", pairs=8, fd_eta=0.01, unit_probes=False, lr=lr)


def bandits(limits: Threat, tile: int | None = None, time_prior: bool = True) -> Bandits:
    if limits.norm == "linf":
        lr = 10 if tile else 100  # at 100 the slow version's p sticks at 1, where float64 ends; ours adds log-odds
        return Bandits(limits, "cross_entropy", 0.1, 0.01, lr, 1.0, tile, time_prior)
    return Bandits(limits, "cross_entropy", 0.01, 0.5, 0.1, 0.01, tile, time_prior)


PRIOR = {"fd_eta": 0.1, "image_lr": 0.01, "online_lr": 100, "exploration": 1.0}
PRIOR_L2 = {"fd_eta": 0.01, "image_lr": 0.5, "online_lr": 0.1, "exploration": 0.01}
CASES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "simba pixel": (simba, slow.simba, {"step": 0.2, "basis": "pixel"}),
    "simba dct": (
        lambda limits: simba(limits, "dct", 6), slow.simba, {"step": 0.2, "basis": "dct", "freq_dims": 6}
    ),
    "signhunter": (lambda limits: SignHunter(limits, "cross_entropy"), slow.signhunter, {}),
    "nes": (nes, slow.nes, {"pairs": 8, "sigma": 0.01, "lr": 0.02}),
    "nes l2": (lambda limits: nes(limits, lr=0.3), slow.nes, {"pairs": 8, "sigma": 0.01, "lr": 0.3}),
    "bandits": (bandits, slow.bandits, PRIOR | {"tile": None, "time_prior": True}),
    "bandits tiled": (lambda t: bandits(t, tile=4), slow.bandits, PRIOR | {"tile": 4, "time_prior": True, "online_lr": 10}),
    "bandits forgetful": (
        lambda t: bandits(t, time_prior=False), slow.bandits, PRIOR | {"tile": None, "time_prior": False}
    ),
    "bandits l2": (bandits, slow.bandits, PRIOR_L2 | {"tile": None, "time_prior": True}),
}  # fmt: skip
IN_L2 = [name for name in CASES if name != "nes" and ("bandits" not in name or "l2" in name)]
RUNS = [(name, "linf") for name in CASES if "l2" not in name]
RUNS += [pytest.param(name, "l2", marks=pytest.mark.parity) for name in IN_L2]


@pytest.mark.parametrize(("case", "norm"), RUNS)
def test_agrees_with_a_slow_version_on_digits(case: str, norm: str, digits: Scene, parity: int | None) -> None:
    """On 60 images, on all 200 with --parity."""
    digits = digits if parity else digits.first(60)
    make, reference, settings = CASES[case]
    limits = threat(norm, "1/12" if norm == "linf" else "1/2", 150)
    ours = digits.play(make(limits), limits)
    settings = settings | {"budget": 150, "eps": limits.radius, "norm": norm}
    fooled, queries = digits.slow(partial(slow.play, reference), **settings)
    assert 0.05 < fooled.float().mean() < 0.98
    if case == "signhunter":  # nothing random in it
        assert torch.equal(ours.fooled, fooled) and torch.equal(ours.queries, queries)
    agree(ours, fooled, queries)


@pytest.mark.parametrize("case", ["simba dct", "signhunter", "nes", "bandits tiled"])
def test_agrees_with_a_slow_version_on_cifar(case: str, cifar: Scene) -> None:
    make, reference, settings = CASES[case]
    limits = threat("linf", "12/255", 60)
    ours = cifar.play(make(limits), limits)
    settings = settings | {"budget": 60, "eps": limits.radius, "norm": "linf"}
    fooled, queries = cifar.slow(partial(slow.play, reference), **settings)
    assert fooled.any()
    agree(ours, fooled, queries)


TARGETED = [simba, lambda t: SignHunter(t, "margin"), lambda t: nes(t, 0.05 if t.norm == "linf" else 0.5), bandits]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("make", TARGETED, ids=["simba", "signhunter", "nes", "bandits"])
def test_targeted_reaches_the_target_inside_the_ball(make: Any, norm: str, digits: Scene) -> None:
    limits = threat(norm, "1/3" if norm == "linf" else "3", 400, "random")
    target = (digits.y + 3) % 10
    found = digits.play(make(limits), limits, target=target)
    assert found.fooled.float().mean() > 0.3
    hit = found.fooled
    with torch.no_grad():
        assert (digits.network(found.found[hit]).argmax(1) == target[hit]).float().mean() > 0.99
    assert limits.contains(digits.x[hit], found.found[hit]).all()


def test_noise_is_a_floor(digits: Scene) -> None:
    for norm, eps in (("linf", "1/12"), ("l2", "1")):
        limits = threat(norm, eps, 100)
        floor = digits.play(Noise(limits), limits)
        assert 0 <= floor.fooled.float().mean() < digits.play(simba(limits), limits).fooled.float().mean()
        used = limits.distance(digits.x, floor.found)
        assert limits.contains(digits.x, floor.found).all() and (used > limits.radius / 2).all()


def test_strided_order_begins_with_the_lowest_block() -> None:
    cpu = torch.device("cpu")
    shells = _coordinates(3, 32, 32, 14, "strided", 7, cpu)
    high = torch.maximum(shells[:, 0] // 32 % 32, shells[:, 0] % 32)
    assert len(shells) == 3072 and (shells[high < 14, 1] == 0).all() and (shells[high == 14, 1] == 1).all()
    assert shells[high == 31, 1].unique().tolist() == [3] and (shells[high == 20, 1] == 1).all()
    assert len(_coordinates(3, 32, 32, 14, "random", 7, cpu)) == 3 * 14 * 14


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: simba(threat("l1", "1", 10)), "simba has no threat.norm=l1"),
        (lambda: simba(threat("l2", "1", 1)), "at least 2 answers"),
        (lambda: simba(threat("l2", "1", 9), "fourier"), "basis=fourier"),
        (lambda: simba(threat("l2", "1", 9), "pixel", 5), "pixel has no frequencies"),
        (lambda: SignHunter(threat("l1", "1", 9), "margin"), "signhunter has no threat.norm=l1"),
        (lambda: nes(threat("linf", "1/10", 16)), r"takes 17 answers, threat.queries=16; set attack.pairs=7"),
        (lambda: Nes(threat("linf", "1/10", 50), "margin", 100, 0.1, True, 0.1), "attack.pairs=24"),
        (lambda: nes(threat("linf", "1/10", 50), lr=0), "attack.lr=0"),
        (lambda: bandits(threat("linf", "1/10", 2)), "takes 3 answers"),
        (lambda: bandits(threat("l1", "1", 20)), "bandits has no threat.norm=l1"),
        (lambda: Noise(threat("l1", "1", 20)), "noise has no threat.norm=l1"),
    ],
)
def test_bad_settings_are_one_line(make: Any, line: str) -> None:
    with pytest.raises(BenchError, match=line):
        make()


def test_sizes_that_do_not_fit_the_image_are_one_line(digits: Scene) -> None:
    limits = threat("linf", "1/10", 20)
    for attack, line in (
        (simba(limits, "dct", 9), "freq_dims=9 does not fit images of 8x8"),
        (bandits(limits, 9), "tile_size=9"),
    ):
        with pytest.raises(BenchError, match=line):
            digits.play(attack, limits)


def test_simba_ends_with_its_iterations(digits: Scene) -> None:
    """Up to there it is the same attack; an iteration costs one answer where its first try is kept, else two."""
    limits = threat("linf", "1/12", 200)
    whole = digits.first(40).play(simba(limits, "dct", 6), limits)
    ended = digits.first(40).play(Simba(limits, "dct", 0.2, 6, "random", 7, iterations=5), limits)
    early = ended.fooled
    assert 0 < early.sum() < whole.fooled.sum()
    assert torch.equal(ended.queries[early], whole.queries[early])
    assert (ended.queries[~early] >= 1 + 5).all() and (ended.queries[~early] <= 1 + 2 * 5).all()
    assert (whole.queries[~early] > ended.queries[~early]).all()
    attack, net = Simba(limits, "dct", 0.2, 6, "random", 7, iterations=5), digits.network
    x, y = digits.x[:1], digits.y[:1]
    state, tried = attack.start(x, y, torch.full_like(y, -1), torch.tensor([3])), 0
    while not attack.ended(state).all():
        asked = attack.query(state)
        with torch.no_grad():
            state, tried = attack.observe(state, asked, net(asked)), tried + 1
    assert int(state.i) == 5 and 6 <= tried <= 11
    with pytest.raises(BenchError, match=r"attack\.iterations=0 must be at least 1"):
        Simba(limits, "dct", 0.2, 6, "random", 7, iterations=0)
