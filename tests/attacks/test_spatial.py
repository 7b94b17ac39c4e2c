"""Attacks on the flow: against slow single-image versions by autograd, torch.optim and scipy; bounds, budgets and bad input."""

from fractions import Fraction
from typing import Any

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from attacks.base import Evaluation, Found, Rows
from attacks.losses import margin
from attacks.oracles.gradients import Exact
from attacks.spatial.flow import roughness
from attacks.spatial.flow_es import FlowEs
from attacks.spatial.flow_pgd import FlowPgd
from attacks.spatial.rotate_translate import RotateTranslate
from attacks.spatial.stadv import StAdv
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys
from bench.core.success import fooled
from bench.core.threat import Threat
from bench.core.victim import FixedRows, Ledger, Victim
from bench.core.warp import warp
from defenses.none import Undefended
from tests.support.scene import Scene


def threat(norm: str = "flow_linf", eps: str = "1/2", queries: int = 200) -> Threat:
    return Threat(norm, Fraction(eps), queries, "logits", "untargeted")  # type: ignore[arg-type]


def pgd(limits: Threat | None = None, **changes: Any) -> FlowPgd:
    plain = {"steps": 10, "step": 0.2, "momentum": 0.0, "random_start": False, "restarts": 1, "loss": "cross_entropy"}
    return FlowPgd(limits or threat(), **{**plain, "early_stop": True, **changes})  # type: ignore[arg-type]


def stadv(solver: Any = "sgd", limits: Threat | None = None, **changes: Any) -> StAdv:
    plain = {"steps": 12, "c": 0.02, "kappa": 0.0, "lr": 0.05, "momentum": 0.9, "history": 5}
    return StAdv(limits or threat("none"), solver, **{**plain, **changes})


def es(limits: Threat | None = None, **changes: Any) -> FlowEs:
    plain = {"loss": "margin", "pairs": 5, "sigma": 0.5, "step": 0.25, "tile": None}
    return FlowEs(limits or threat(), **{**plain, **changes})


def turned(
    limits: Threat, angles: int = 3, shifts: int = 3, degrees: float = 20.0, pixels: float = 1.0
) -> RotateTranslate:
    return RotateTranslate(limits, degrees, angles, pixels, shifts)


def rows_of(scene: Scene) -> Rows:
    sample = torch.arange(len(scene.y))
    return Rows(sample, scene.y, torch.full_like(scene.y, -1), keys(0, Stream.ATTACK, sample))


def played(scene: Scene, attack: Any) -> tuple[Found, Victim]:
    fixed = FixedRows(scene.network, 64, torch.float32, Ledger(len(scene.y), torch.device("cpu")))
    victim = Victim(Undefended(fixed), fixed, 0)
    return attack(Exact(victim), scene.x, rows_of(scene)), victim


def broken(scene: Scene, image: Tensor) -> Tensor:
    with torch.no_grad():
        return scene.network(image).argmax(1) != scene.y


class Flat:
    """An oracle of a network that answers the same everywhere."""

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        return Evaluation(torch.ones(len(x)), torch.zeros_like(x), self.logits(x, rows, live))

    def logits(self, x: Tensor, rows: Rows, live: Tensor) -> Tensor:
        return nn.functional.one_hot(rows.y, 10).float()


@pytest.mark.parametrize("attack", [pgd(), stadv(), stadv("lbfgs")], ids=["pgd", "sgd", "lbfgs"])
def test_without_a_gradient_the_image_comes_back_bit_for_bit(attack: Any, digits: Scene) -> None:
    assert torch.equal(attack(Flat(), digits.x, rows_of(digits)).image, digits.x)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_flow_pgd_is_the_slow_one(momentum: float, digits: Scene) -> None:
    """One image at a time, its flow's gradient by autograd through the sampler."""
    ours, _ = played(digits, pgd(steps=4, momentum=momentum, early_stop=False))
    for i in range(12):
        x, y = digits.x[i : i + 1], digits.y[i : i + 1]
        flow, velocity = torch.zeros(1, 8, 8, 2), torch.zeros(1, 8, 8, 2)
        for _ in range(4):
            leaf = flow.clone().requires_grad_()
            slope = torch.autograd.grad(nn.functional.cross_entropy(digits.network(warp(x, leaf)), y), leaf)[0]
            velocity = momentum * velocity + slope / slope.abs().mean()
            flow = (flow + 0.1 * (velocity if momentum else slope).sign()).clamp(-0.5, 0.5)
        gap = (ours.image[i] - warp(x, flow)[0]).abs()
        assert (gap > 1e-4).float().mean() <= 0.05  # a slope of 0 but for rounding may take either sign


def test_more_work_breaks_more_and_nothing_leaves_the_ball(digits: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    largest: list[float] = []

    def seen(x: Tensor, v: Tensor) -> Tensor:
        largest.append(v.abs().max().item())
        return warp(x, v)

    monkeypatch.setattr("attacks.spatial.flow_pgd.warp", seen)
    eps = threat(eps="3/20")
    restarts = pgd(eps, steps=20, step=0.1, random_start=True, restarts=4, loss="margin")
    attacks = [pgd(eps, steps=1, step=1.0), pgd(eps, steps=20, step=0.1), restarts]
    shares, found = [], None
    for attack in attacks:
        found, victim = played(digits, attack)
        shares.append(broken(digits, found.image).float().mean().item())
        assert found.image.min() >= 0 and found.image.max() <= 1
        assert torch.equal(victim.ledger.count["backward"] > 0, torch.ones_like(digits.y, dtype=torch.bool))
    assert shares[0] <= shares[1] <= shares[2] and shares[2] > 0.2
    assert max(largest) <= 0.15 + 1e-7 and largest.count(0.0) >= 2
    assert found is not None and found.restart.unique().numel() > 1


def test_roughness_is_the_papers_sum() -> None:
    v = torch.randn(2, 4, 5, 2, generator=torch.Generator().manual_seed(0))
    slow = torch.zeros(2)
    for i in range(4):
        for j in range(5):
            for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if 0 <= i + di < 4 and 0 <= j + dj < 5:
                    slow += (v[:, i, j] - v[:, i + di, j + dj]).square().sum(-1).sqrt()
    value, slope = roughness(v)
    torch.testing.assert_close(value, slow)
    step = 1e-3 * torch.randn(v.shape, generator=torch.Generator().manual_seed(1))
    rise = roughness((v + step).double())[0] - roughness((v - step).double())[0]
    torch.testing.assert_close((slope * 2 * step).flatten(1).sum(1).double(), rise, rtol=1e-3, atol=1e-5)


def objective(scene: Scene, i: int, v: Tensor, c: float, kappa: float) -> Tensor:
    """stAdv's, of one image, written anew."""
    logits = scene.network(warp(scene.x[i : i + 1], v[None]))
    gap = margin(logits, scene.y[i : i + 1], torch.tensor([-1])).clamp_min(-kappa)[0]
    down, right = (v.diff(dim=axis).square().sum(-1) + 1e-12 for axis in (0, 1))
    return gap + 2 * c * (down.sqrt().sum() + right.sqrt().sum())


def test_stadv_by_sgd_is_torchs(digits: Scene) -> None:
    """kappa is out of reach, so that no row ends early."""
    ours, victim = played(digits, stadv(kappa=1e3))
    assert (victim.ledger.count["backward"] == 12).all()
    for i in range(8):
        v = torch.zeros(8, 8, 2, requires_grad=True)
        optimiser = torch.optim.SGD([v], lr=0.05, momentum=0.9)
        for _ in range(12):
            optimiser.zero_grad()
            objective(digits, i, v, 0.02, 1e3).backward()
            optimiser.step()
        torch.testing.assert_close(ours.image[i], warp(digits.x[i : i + 1], v.detach()[None])[0], atol=2e-3, rtol=0)


def test_stadv_by_lbfgs_falls_as_low_as_scipys(digits: Scene) -> None:
    """The same objective, kappa out of reach, as many passes: within a tenth of scipy's fall, on average."""
    attack = stadv("lbfgs", steps=40, c=0.05, kappa=1e3)
    fixed = FixedRows(digits.network, 64, torch.float32, Ledger(len(digits.y), torch.device("cpu")))
    flow = attack._lbfgs(Exact(Victim(Undefended(fixed), fixed, 0)), digits.x, rows_of(digits))
    ours, theirs = [], []
    for i in range(10):

        def told(v: Any, i: int = i) -> tuple[float, Any]:
            leaf = torch.tensor(v, dtype=torch.float32).view(8, 8, 2).requires_grad_()
            value = objective(digits, i, leaf, 0.05, 1e3)
            value.backward()
            assert leaf.grad is not None
            return value.item(), leaf.grad.flatten().double().numpy()

        start = told(torch.zeros(128).numpy())[0]
        found = minimize(
            told, torch.zeros(128).numpy(), jac=True, method="L-BFGS-B", options={"maxfun": 40, "maxcor": 5}
        )
        ours.append(start - told(flow[i].numpy())[0])
        theirs.append(start - found.fun)
    assert sum(ours) > 0.9 * sum(theirs) > 0


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_stadv_fools_with_a_smooth_flow_and_stops_there(solver: str, digits: Scene) -> None:
    found, victim = played(digits, stadv(solver, steps=60, lr=0.3))
    assert broken(digits, found.image).float().mean() > 0.9
    passes = victim.ledger.count["backward"]
    assert passes.max() <= 60 and passes.unique().numel() > 3  # a fooled row asks no more
    clipped, _ = played(digits, stadv(solver, threat(eps="1/10"), steps=20, lr=0.3))
    assert broken(digits, clipped.image).float().mean() < broken(digits, found.image).float().mean()


def test_es_descends_by_answers_alone(digits: Scene) -> None:
    limits = threat(eps="1/2", queries=300)
    once = digits.play(es(limits, pairs=150), limits)  # 300 probes around the image, no step
    found = digits.play(es(limits), limits)
    assert found.fooled.sum() > once.fooled.sum() and found.margin.mean() < once.margin.mean()
    assert (found.queries <= 300).all() and fooled(digits.network(found.found), found.y, found.target)[
        found.fooled
    ].all()
    coarse = digits.play(es(limits, tile=3), limits)
    assert coarse.fooled.sum() > 0 and not torch.equal(coarse.queries, found.queries)


def test_rotations_and_translations_are_asked_once_each(digits: Scene) -> None:
    limits = threat("none", queries=27)
    attack = turned(limits)
    state = attack.start(digits.x[:3], digits.y[:3], digits.y[:3] * 0 - 1, keys(0, Stream.ATTACK, torch.arange(3)))
    assert torch.equal(state.order.sort(1).values, torch.arange(27).expand(3, -1))
    assert not torch.equal(state.order[0], state.order[1])
    flows = torch.stack([attack.flow(torch.tensor([nth]), digits.x[:1])[0] for nth in range(27)])
    assert len(flows.flatten(1).unique(dim=0)) == 27
    assert not flows[13].any()  # the middle of the grid moves nothing
    torch.testing.assert_close(flows[14] - flows[13], torch.tensor([0.0, 1.0]).expand(8, 8, 2))
    quarter = turned(threat("none", queries=2), angles=2, shifts=1, degrees=90.0)
    spun = warp(digits.x[:1], quarter.flow(torch.tensor([1]), digits.x[:1]))
    torch.testing.assert_close(spun, digits.x[:1].rot90(1, (2, 3)), atol=1e-5, rtol=0)
    found = digits.play(attack, limits)
    assert 0 < found.fooled.sum() < len(found.y) and (found.queries[~found.fooled] == 27).all()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda x: pgd(threat("linf"))(Flat(), x.x, rows_of(x)), "has no threat.norm=linf; use flow_linf"),
        (
            lambda x: pgd(threat(eps="8"))(Flat(), x.x, rows_of(x)),
            "threat.eps=8 moves pixels further than the image's 8",
        ),
        (lambda x: stadv("sgd", threat(eps="9"))(Flat(), x.x, rows_of(x)), "threat.eps=9 moves pixels further"),
        (lambda x: x.play(es(threat(eps="8")), threat()), "threat.eps=8 moves pixels further"),
        (
            lambda x: x.play(turned(threat("none", queries=27), pixels=8.0), threat()),
            "attack.pixels=8.0 shifts the image out",
        ),
        (lambda x: pgd(loss="margn"), "attack.loss=margn is unknown; did you mean 'margin'"),
        (lambda x: pgd(steps=0), "attack.steps=0"),
        (lambda x: stadv("adam"), "attack.solver=adam is unknown"),
        (lambda x: stadv(c=-1.0), "attack.c=-1.0"),
        (lambda x: es(tile=1), "attack.tile=1"),
        (lambda x: es(threat("none")), "flow ES has no threat.norm=none"),
        (lambda x: turned(threat("none", queries=28)), "set threat.queries=27 or less, not 28"),
        (lambda x: turned(threat()), "rotation-translation has no threat.norm=flow_linf; use none"),
    ],
)
def test_bad_settings_are_one_line(make: Any, line: str, digits: Scene) -> None:
    with pytest.raises(BenchError) as caught:
        make(digits)
    assert line in str(caught.value) and "\n" not in str(caught.value)
