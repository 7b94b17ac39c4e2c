"""White-box attacks against foolbox and pyautoattack on the same networks and images, and what each promises."""

from functools import partial
from typing import Any

import foolbox
import pytest
import torch
from torch import nn

from attacks.base import Rows
from attacks.gradient.autoattack import AutoAttack, Network
from attacks.gradient.cw import Cw
from attacks.gradient.ead import Ead
from attacks.gradient.pgd import Pgd
from attacks.gradient.rfgsm import RandomFgsm
from attacks.norms import free, project, random_point, steepest
from attacks.oracles.gradients import Exact, Watched
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys
from defenses.none import Undefended
from tests.support.scene import Scene
from tests.support.strike import CPU, limits, strike, victim_of

FEW = 12  # CIFAR images of the dear comparisons; --parity=N takes more
PLAIN: dict[str, Any] = {"momentum": 0.0, "random_start": False, "restarts": 1, "early_stop": True}


@pytest.fixture(params=["digits", "cifar"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return request.getfixturevalue(request.param)


def theirs(scene: Scene, attack: Any, eps: float | None) -> torch.Tensor:
    model = foolbox.PyTorchModel(scene.network, bounds=(0, 1), device="cpu")
    return attack(model, scene.x, scene.y, epsilons=eps)[1]


EPS = {"digits": {"linf": "1/12", "l2": "0.6"}, "cifar": {"linf": "8/255", "l2": "0.5"}}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 10])
def test_pgd_and_fgsm_break_what_foolboxs_break(scene: Scene, norm: str, steps: int) -> None:
    """Robust accuracy equal within one image in a hundred, at the same steps and start."""
    eps = EPS["digits" if scene.x.shape[1] == 1 else "cifar"][norm]
    limit = limits(norm, eps)
    step = 1.0 if steps == 1 else 0.25
    ours = strike(scene, Pgd(limit, steps, step, loss="cross_entropy", **PLAIN))[1]
    kind = foolbox.attacks.LinfPGD if norm == "linf" else foolbox.attacks.L2PGD
    reference = kind(abs_stepsize=step * limit.radius, steps=steps, random_start=False)
    other = scene.network(theirs(scene, reference, limit.radius)).argmax(1) != scene.y
    assert 5 < int(other.sum()) < len(scene.y)
    assert abs(int(ours.sum()) - int(other.sum())) <= max(1, len(scene.y) // 100)


def test_restarts_end_where_nothing_stands(digits: Scene) -> None:
    """Every image falls in the first run, before its last step: there is nothing left to look at."""
    attack = Pgd(limits("linf", "1"), 40, 0.1, loss="margin", **(PLAIN | {"restarts": 3}))
    found, hit, victim, _ = strike(digits, attack)
    assert hit.all() and (found.restart == 0).all()
    nobody = torch.zeros(len(digits.y), dtype=torch.bool)
    number = torch.arange(len(digits.y))
    rows = Rows(number, digits.y, digits.y * 0 - 1, number)
    assert not Exact(victim).logits(digits.x, rows, nobody).any()  # and asking about no image is no error


@pytest.mark.parametrize(("norm", "eps"), [("linf", "1/12"), ("l2", "0.6"), ("l1", "3")])
def test_every_image_lies_in_the_ball_and_restarts_add(digits: Scene, norm: str, eps: str) -> None:
    limit = limits(norm, eps)
    settings = PLAIN | {"random_start": True, "early_stop": False, "momentum": 0.5}
    found = strike(digits, Pgd(limit, 5, 0.5, loss="margin", **settings))[0]
    assert limit.contains(digits.x, found.image).all()
    assert limit.distance(digits.x, found.image).median() > 0.9 * limit.radius
    one, five = (
        strike(digits, Pgd(limit, 2, 0.5, loss="margin", **(PLAIN | {"random_start": True, "restarts": n})))[1]
        for n in (1, 5)
    )
    assert (five | ~one).all() and five.sum() >= one.sum()  # a union: restarts lose nothing


@pytest.mark.parametrize(("norm", "eps"), [("l2", "2"), ("l1", "400")])
def test_projection_and_judge_agree_on_large_even_images(norm: str, eps: str) -> None:
    """Rounding x + delta leans to one side over thousands of equal pixels: at 3 x 224 x 224 by 3e-3 of an l1 radius of 400."""
    limit, number = limits(norm, eps), torch.arange(12)
    grey = torch.randint(100, 256, (12, 3, 1, 1), generator=torch.Generator().manual_seed(0)) / 255
    x = grey.expand(-1, -1, 224, 224).contiguous()
    image = project(x, x + random_point(number, (3, 224, 224), norm, limit.radius), norm, limit.radius)
    slope = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    for _ in range(4):
        moved = image + 0.125 * limit.radius * steepest(free(slope, image), norm)
        image = project(x, moved, norm, limit.radius)
    assert limit.contains(x, image).all()
    beyond = 1.00005 * limit.radius / limit.distance(x, image).float()
    far = x + (image - x) * beyond.view(-1, 1, 1, 1)
    assert not limit.contains(x, far.clamp(0, 1)).any()


def test_a_targeted_attack_hits_its_target(digits: Scene) -> None:
    target = (digits.y + 3) % 10
    found, hit, _, _ = strike(
        digits, Pgd(limits("linf", "0.3", "random"), 40, 0.1, loss="cross_entropy", **PLAIN), target=target
    )
    assert hit.float().mean() > 0.9
    assert (digits.network(found.image).argmax(1)[hit] == target[hit]).all()


def test_stopping_early_only_saves_passes(digits: Scene) -> None:
    limit = limits("linf", "1/8")
    stop = strike(digits, Pgd(limit, 10, 0.25, loss="margin", **PLAIN))
    on = strike(digits, Pgd(limit, 10, 0.25, loss="margin", **(PLAIN | {"early_stop": False})))
    assert stop[1].sum() >= on[1].sum()
    count = [victim.ledger.count["white_box"].sum() for victim in (stop[2], on[2])]
    assert count[0] < 0.8 * count[1] and count[1] == 10 * len(digits.y)


def test_the_ledger_is_what_a_hook_sees(digits: Scene) -> None:
    seen: list[int] = []
    hook = digits.network.head.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    try:
        victim = victim_of(digits)
        number = torch.arange(len(digits.y))
        rows = Rows(number, digits.y, torch.full_like(digits.y, -1), keys(0, Stream.ATTACK, number))
        attack = Pgd(limits("linf", "1/12"), 5, 0.3, loss="margin", **(PLAIN | {"restarts": 2}))
        attack(Exact(victim), digits.x, rows)
    finally:
        hook.remove()
    assert sum(seen) == sum(victim.ledger.totals().values())
    assert 0 < int(victim.ledger.count["backward"].sum()) < victim.ledger.totals()["white_box"]


def test_records_do_not_depend_on_mates(digits: Scene) -> None:
    """The same rows alone, in another order: bit for bit the same images."""
    attack = Pgd(limits("linf", "1/12"), 5, 0.3, **(PLAIN | {"random_start": True}), loss="margin")
    whole = strike(digits, attack)[0].image
    order = torch.arange(len(digits.y) - 1, -1, -1)
    number = torch.arange(len(digits.y))
    victim = victim_of(digits)
    rows = Rows(number[order], digits.y[order], torch.full_like(digits.y, -1), keys(0, Stream.ATTACK, number[order]))
    turned = attack(Exact(victim), digits.x[order], rows).image
    assert torch.equal(turned[order], whole)
    few = torch.arange(7)
    victim = victim_of(digits)
    rows = Rows(few, digits.y[few], torch.full_like(few, -1), keys(0, Stream.ATTACK, few))
    assert torch.equal(attack(Exact(victim), digits.x[few], rows).image, whole[:7])


def _median(scene: Scene, image: torch.Tensor, norm: str) -> float:
    return float(limits(norm, "1").distance(scene.x, image).median())


def _found(scene: Scene, other: torch.Tensor) -> int:
    """foolbox gives a black image where it found nothing."""
    return int(((scene.network(other).argmax(1) != scene.y) & (other.flatten(1).amax(1) > 0)).sum())


def test_cw_is_as_near_as_foolboxs(scene: Scene, parity: int | None) -> None:
    n, steps, searches = (60, 100, 5) if scene.x.shape[1] == 1 else (parity or FEW, 40, 3)
    scene = Scene(scene.network, scene.x[:n], scene.y[:n])
    attack = Cw(limits("l2", "9"), searches, steps, 0.01, 0.1, 0.0, abort_early=False, inside=False)
    found, hit, _, _ = strike(scene, attack, rows=n)
    other = theirs(
        scene,
        foolbox.attacks.L2CarliniWagnerAttack(searches, steps, 0.01, initial_const=0.1, abort_early=False),
        None,
    )
    assert hit.sum() >= _found(scene, other)
    assert _median(scene, found.image, "l2") <= 1.03 * _median(scene, other, "l2")


@pytest.mark.parametrize(("rule", "norm"), [("EN", "l2"), ("L1", "l1")])
def test_ead_is_as_near_as_foolboxs(scene: Scene, rule: Any, norm: str, parity: int | None) -> None:
    n, steps, searches = (60, 100, 4) if scene.x.shape[1] == 1 else (parity or FEW, 40, 3)
    scene = Scene(scene.network, scene.x[:n], scene.y[:n])
    attack = Ead(limits(norm, "99"), searches, steps, 0.01, 0.1, 0.0, 0.01, rule, abort_early=False)
    found, hit, _, _ = strike(scene, attack, rows=n)
    reference = foolbox.attacks.EADAttack(
        searches, steps, 0.01, initial_const=0.1, regularization=0.01, decision_rule=rule, abort_early=False
    )
    other = theirs(scene, reference, None)
    assert hit.sum() >= _found(scene, other)
    assert _median(scene, found.image, norm) <= 1.03 * _median(scene, other, norm)


class Filled(nn.Module):
    """A network whose every call has `rows` rows, as the harness asks it: float32 answers depend on the number of rows."""

    def __init__(self, network: nn.Module, rows: int) -> None:
        super().__init__()
        self.network, self.rows = network, rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        filler = x[:1].detach().expand(-len(x) % self.rows, -1, -1, -1)
        whole = torch.cat([x, filler]).split(self.rows)
        return torch.cat([self.network(part) for part in whole])[: len(x)]


@pytest.mark.parametrize(("norm", "part"), [("linf", "apgd-ce"), ("l2", "apgd-dlr")])
def test_apgd_through_the_engine_is_the_engines(cifar: Scene, norm: str, part: str, parity: int | None) -> None:
    """Bit for bit the same images."""
    if norm == "l2" and not parity:
        pytest.skip("minutes: --parity=N")
    from pyautoattack import AutoAttack as Engine

    n = parity or 8  # one full call
    few = Scene(cifar.network, cifar.x[:n], cifar.y[:n])
    limit = limits(norm, EPS["cifar"][norm])
    found, hit, victim, _ = strike(few, AutoAttack(limit, "custom", [part], n), rows=8)
    seed = int(keys(0, Stream.ATTACK, torch.arange(1))[0]) & 0x7FFFFFFF
    with torch.random.fork_rng():
        engine = Engine(
            Filled(few.network, 8),
            norm=norm.capitalize(),  # pyright: ignore[reportArgumentType]
            eps=limit.radius,
            seed=seed,
            version="custom",
            attacks=[part],  # pyright: ignore[reportArgumentType]
        )
        image, _ = engine.run_standard_evaluation(few.x, few.y, batch_size=n)
    assert torch.equal(found.image, project(few.x, image, norm, limit.radius))
    assert 0 < int(hit.sum()) < n and limit.contains(few.x, found.image).all()
    assert torch.equal(hit, few.network(image).argmax(1) != few.y)
    assert victim.ledger.totals()["white_box"] > n * 50


def test_the_engines_gradient_reaches_black_and_white_pixels(digits: Scene) -> None:
    """Most pixels of digits are 0 or 1, where clamp's derivative is 0: the gradient is the network's own."""
    victim = victim_of(digits, Undefended, 64)
    number = torch.arange(len(digits.y))
    watched = Watched.over(Exact(victim), len(digits.y), CPU)
    network = Network(watched, Rows(number, digits.y, digits.y * 0 - 1, number), 10)
    slopes = []
    for answer in (network, digits.network):
        x = digits.x.clone().requires_grad_(True)
        slopes += torch.autograd.grad(nn.functional.cross_entropy(answer(x), digits.y, reduction="sum"), x)
    assert ((digits.x == 0) | (digits.x == 1)).float().mean() > 0.4
    assert torch.allclose(slopes[0], slopes[1], atol=1e-4, rtol=1e-3)
    assert (watched.calls == 1).all() and (watched.broken == 0).all()  # what the engine received is noted for the flags
    assert torch.equal(watched.zero, (slopes[0] == 0).flatten(1).double().mean(1))


def test_an_engine_gets_no_nan_and_the_flags_know_of_it(digits: Scene) -> None:
    class Broken(Exact):
        def forward(self, x: torch.Tensor, rows: Rows) -> torch.Tensor:
            return super().forward(x + 0 * x.sqrt(), rows)  # 0 * inf at black pixels

    watched = Watched.over(Broken(victim_of(digits, Undefended, 64)), len(digits.y), CPU)
    number = torch.arange(len(digits.y))
    network = Network(watched, Rows(number, digits.y, digits.y * 0 - 1, number), 10)
    x = digits.x.clone().requires_grad_(True)
    slope = torch.autograd.grad(network(x).sum(), x)[0]
    assert torch.isfinite(slope).all() and (watched.broken == 1).all()


def test_autoattack_says_how_many_classes_its_targets_need() -> None:
    class Five:
        def forward(self, x: torch.Tensor, rows: object) -> torch.Tensor:
            return x.flatten(1)[:, :5]

    y = torch.zeros(4, dtype=torch.int64)
    rows = Rows(y, y, y - 1, y)
    attack = AutoAttack(limits("linf", "1/10"), "standard", None, 4)
    with pytest.raises(BenchError, match="aim at 9 other classes, the victim has 5"):
        attack(Five(), torch.rand(4, 1, 8, 8), rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (partial(Pgd, limits("none", "1"), 1, 1.0, loss="margin", **PLAIN), "threat.norm=none"),
        (partial(Pgd, limits("linf", "1"), 0, 1.0, loss="margin", **PLAIN), "attack.steps=0"),
        (partial(Pgd, limits("linf", "1"), 1, 1.0, loss="margn", **PLAIN), "did you mean 'margin'"),
        (partial(RandomFgsm, limits("l1", "9"), 0.5, "margin"), "R+FGSM has no threat.norm=l1"),
        (partial(RandomFgsm, limits("linf", "1"), 1.0, "margin"), "attack.alpha=1.0"),
        (partial(Cw, limits("linf", "1"), 1, 1, 0.1, 1.0, 0.0, True, False), "C&W has no threat.norm=linf"),
        (partial(Ead, limits("linf", "1"), 1, 1, 0.1, 1.0, 0.0, 0.1, "EN", True), "EAD has no threat.norm=linf"),
        (partial(Ead, limits("l1", "1"), 1, 1, 0.1, 1.0, 0.0, 0.1, "XX", True), "attack.rule=XX"),
        (partial(AutoAttack, limits("linf", "1"), "rnd", None, 5), "attack.engine=rnd"),
        (partial(AutoAttack, limits("linf", "1"), "custom", None, 5), "names attacks"),
        (partial(AutoAttack, limits("linf", "1", "random"), "rand", None, 5), "AutoAttack is untargeted"),
    ],
)
def test_wrong_settings_get_one_line(make: Any, word: str) -> None:
    with pytest.raises(BenchError) as caught:
        make()
    assert word in str(caught.value) and "\n" not in str(caught.value)
