"""Oracles: what they return against direct autograd, what they cost, and whom they refuse."""

from functools import partial
from typing import Any

import pytest
import torch

from attacks.base import Rows
from attacks.gradient.gmsa import Gmsa
from attacks.gradient.pgd import Pgd
from attacks.losses import LOSSES
from attacks.oracles.adapted import Adapted
from attacks.oracles.diversity import Diverse, TranslationInvariant
from attacks.oracles.gradients import Bpda, Ensemble, Eot, Exact, FiniteDifferences, Watched, mean
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream, keys
from bench.core.success import fooled
from defenses.aaa import Aaa
from defenses.dent import Dent
from defenses.gcm import Gcm
from defenses.rnd import Rnd
from tests.support.scene import Scene
from tests.support.strike import limits, strike, victim_of

NOISY = partial(Rnd, input_noise=0.05, output_noise=0.0)
GCM: Any = partial(Gcm, w=1e20, eps=1e-8, places=["input"])


def rows_of(scene: Scene, n: int) -> tuple[torch.Tensor, Rows, torch.Tensor]:
    number = torch.arange(n)
    rows = Rows(number, scene.y[:n], torch.full_like(number, -1), keys(0, Stream.ATTACK, number))
    return scene.x[:n], rows, torch.ones(n, dtype=torch.bool)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_exact_is_autograd_row_by_row(digits: Scene, loss: str) -> None:
    x, rows, live = rows_of(digits, 10)
    live[3] = False
    answer = Exact(victim_of(digits, rows=4))(x, rows, loss, live)
    for i in range(10):
        leaf = x[i : i + 1].clone().requires_grad_()
        value = LOSSES[loss](digits.network(leaf), rows.y[i : i + 1], rows.target[i : i + 1])
        (grad,) = torch.autograd.grad(value.sum(), leaf)
        if i == 3:
            assert answer.grad[i].abs().max() == 0 and answer.logits[i].abs().max() == 0
        else:
            assert torch.allclose(answer.grad[i], grad[0], rtol=1e-4, atol=1e-5 * float(grad.abs().max()))
            assert torch.allclose(answer.loss[i], value[0], rtol=1e-5, atol=1e-6)


def test_dlr_knows_no_scale_and_cross_entropy_is_torchs(digits: Scene) -> None:
    x, rows, _ = rows_of(digits, 50)
    logits = digits.network(x).detach()
    assert torch.allclose(LOSSES["dlr"](7 * logits, rows.y, rows.target), LOSSES["dlr"](logits, rows.y, rows.target))
    theirs = -torch.nn.functional.cross_entropy(logits, rows.y, reduction="none")
    assert torch.allclose(LOSSES["cross_entropy"](logits, rows.y, rows.target), theirs, atol=1e-6)
    hit = fooled(logits, rows.y, rows.target)
    assert torch.equal(LOSSES["dlr"](logits, rows.y, rows.target) < 0, hit)


@pytest.mark.parametrize("make", [Exact, partial(Bpda, kind="identity")])
@pytest.mark.parametrize("images", [3, 40])
def test_eots_draws_side_by_side_are_those_one_after_the_other(digits: Scene, make: Any, images: int) -> None:
    """Bit for bit, and what each sample pays; in fewer network calls where a batch doesn't fill them."""
    x, rows, live = rows_of(digits, images)
    live[1] = False
    ours, theirs = (victim_of(digits, NOISY, rows=8) for _ in range(2))
    answer = Eot(ours, 6, make)(x, rows, "margin", live)
    single = make(victim=theirs)
    expected = mean((single(x, rows, "margin", live) for _ in range(6)), 6)
    for a, b in zip(answer, expected, strict=True):
        assert torch.equal(a, b)
    assert answer.grad[0].abs().max() > 0 and answer.grad[1].abs().max() == 0
    for name in ("white_box", "backward"):
        assert torch.equal(ours.ledger.count[name], theirs.ledger.count[name])
    assert ours.ledger.filler < theirs.ledger.filler if images == 3 else ours.ledger.filler <= theirs.ledger.filler


def test_eot_is_the_mean_of_fresh_draws_and_pays_for_each(digits: Scene) -> None:
    x, rows, live = rows_of(digits, 8)
    victim = victim_of(digits, NOISY)
    answer = Eot(victim, 5, Exact)(x, rows, "margin", live)
    other = victim_of(digits, NOISY)
    single = Exact(other)
    each = [single(x, rows, "margin", live) for _ in range(5)]
    mean = torch.stack([a.grad for a in each]).mean(0)
    assert torch.allclose(answer.grad, mean, atol=1e-6 * float(mean.abs().max()))
    assert (each[0].grad - each[1].grad).abs().max() > 1e-4
    assert victim.ledger.count["white_box"][:8].tolist() == [5] * 8 == victim.ledger.count["backward"][:8].tolist()


def test_noise_belongs_to_the_sample_and_its_pass(digits: Scene) -> None:
    """Row 5 alone, asked for the second time, draws what it drew among others."""
    x, rows, live = rows_of(digits, 8)
    together = Exact(victim_of(digits, NOISY))
    together(x, rows, "margin", live)
    second = together(x, rows, "margin", live).grad[5]
    alone = Exact(victim_of(digits, NOISY))
    few = Rows(*(column[5:6] for column in rows))
    alone(x[5:6], few, "margin", live[:1])
    assert torch.equal(alone(x[5:6], few, "margin", live[:1]).grad[0], second)


def test_bpda_returns_the_bare_networks_gradient_under_gcm(digits: Scene) -> None:
    x, rows, live = rows_of(digits, 20)
    bare = Exact(victim_of(digits))(x, rows, "margin", live)
    concealed = Exact(victim_of(digits, GCM))(x, rows, "margin", live)
    through = Bpda(victim_of(digits, GCM), "identity")(x, rows, "margin", live)
    assert torch.allclose(through.grad, bare.grad, atol=1e-5) and torch.allclose(through.logits, bare.logits, atol=1e-4)
    seen = bare.grad.abs() > 1e-4
    flipped = (concealed.grad.sign() != bare.grad.sign())[seen].float().mean()
    assert concealed.grad.abs().max() > 1e6 and 0.1 < flipped < 0.6  # black pixels (x = 0) keep their sign


def test_bpda_by_default_moves_the_forward_pass_not_at_all(digits: Scene) -> None:
    """AAA has no gradient; the straight-through one is the bare network's, at AAA's logits."""
    x, rows, live = rows_of(digits, 8)
    make: Any = partial(Aaa, **_aaa())
    victim = victim_of(digits, make)
    with pytest.raises(BenchError, match="attack/oracle=bpda"):
        Exact(victim)
    answer = Bpda(victim, "identity")(x, rows, "margin", live)
    draw = Draw(0, rows.sample, rows.sample * 0, Stream.EOT)
    assert torch.allclose(answer.logits, victim.defense(x, draw), atol=1e-5) and answer.grad.abs().sum() > 0


def _aaa() -> dict[str, Any]:
    from bench.config import grid

    (cell,) = grid.cells(["defense=aaa", "defense.tau=1"])
    return {k: v for k, v in cell.config["defense"].items() if k not in ("_target_", "_partial_", "version")}


def test_finite_differences_point_where_the_gradient_does(digits: Scene) -> None:
    x, rows, live = rows_of(digits, 10)
    x = x.clamp(0.05, 0.95)
    exact = Exact(victim_of(digits))(x, rows, "margin", live).grad.flatten(1)
    guess = FiniteDifferences(victim_of(digits), 400, 0.01)(x, rows, "margin", live).grad.flatten(1)
    assert torch.nn.functional.cosine_similarity(exact, guess).min() > 0.8


def test_an_ensemble_is_the_mean_of_its_members(digits: Scene) -> None:
    x, rows, live = rows_of(digits, 6)
    one, two = Exact(victim_of(digits)), Bpda(victim_of(digits, GCM), "identity")
    both = Ensemble([one, two])
    assert torch.allclose(both(x, rows, "margin", live).grad, one(x, rows, "margin", live).grad, atol=1e-5)
    assert torch.allclose(both.forward(x, rows), digits.network(x), atol=1e-4)


def test_watched_counts_what_an_attack_received(digits: Scene) -> None:
    x, rows, live = rows_of(digits, 4)

    class Broken:
        def __call__(self, x: Any, rows: Any, loss: str, live: Any) -> Any:
            answer = Exact(victim_of(digits))(x, rows, loss, live)
            grad = answer.grad.clone()
            grad[0, 0, 0, 0], grad[1] = torch.nan, 0.0
            return answer._replace(grad=grad)

    watched = Watched.over(Broken(), 4, torch.device("cpu"))
    told = watched(x, rows, "margin", live)
    assert torch.isfinite(told.grad).all() and watched.broken.tolist() == [1, 0, 0, 0]
    assert watched.zero[1] == 1 and watched.calls.tolist() == [1] * 4


def test_diverse_gradients_are_those_of_the_changed_image(digits: Scene) -> None:
    x, rows, live = rows_of(digits, 6)
    still = Diverse(victim_of(digits), 0.0, 0.5, Exact)(x, rows, "margin", live).grad
    plain = Exact(victim_of(digits))(x, rows, "margin", live).grad
    assert torch.allclose(still, plain, atol=1e-5)
    moved = Diverse(victim_of(digits), 1.0, 0.5, Exact)(x, rows, "margin", live).grad
    assert (moved - plain).abs().max() > 1e-3
    smooth = TranslationInvariant(victim_of(digits), 3, Exact)(x, rows, "margin", live).grad
    assert smooth.flatten(1).norm(dim=1).lt(plain.flatten(1).norm(dim=1)).all()


def test_an_engine_gets_the_oracles_gradient_or_an_error(digits: Scene) -> None:
    """`forward` is what AutoAttack goes back through: the same gradient as by asking, never the one behind the oracle."""
    x, rows, live = rows_of(digits, 6)
    oracle = TranslationInvariant(victim_of(digits), 3, Exact)
    leaf = x.clone().requires_grad_()
    value = LOSSES["margin"](oracle.forward(leaf, rows), rows.y, rows.target).sum()
    assert torch.allclose(torch.autograd.grad(value, leaf)[0], oracle(x, rows, "margin", live).grad, atol=1e-5)
    with pytest.raises(BenchError, match="finite_differences has no network"):
        FiniteDifferences(victim_of(digits), 5, 0.01).forward(x, rows)


def test_gmsa_goes_through_the_networks_that_dent_adapted() -> None:
    from tests.support.networks import convolutional

    network = convolutional()
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    scene = Scene(network, x, network(x).argmax(1))
    dent: Any = partial(
        Dent, statistics="batch", loss="entropy", optimizer="adam", lr=0.01, betas=[0.9, 0.999, 0.0], steps=2,
        group={"size": 8, "neighbours": "stay"},
    )  # fmt: skip
    for mode in ("mean", "worst"):
        early: Any = Adapted(victim_of(scene, dent, rows=8), mode)
        whole, rows, live = rows_of(scene, 8)
        with pytest.raises(BenchError, match="attack=gmsa alone"):
            early(whole, rows, "margin", live)
        with pytest.raises(BenchError, match="attack=gmsa alone"):
            early.forward(whole, rows)
        attack = Gmsa(limits("linf", "0.2"), 3, 5, 0.3, "margin")
        found, _, victim, _ = strike(scene, attack, dent, partial(Adapted, mode=mode), rows=8)
        assert limits("linf", "0.2").contains(x, found.image).all()
        assert victim.ledger.totals()["white_box"] == 8 * (5 + 10 + 15 + 3)
        draw = Draw(0, torch.arange(8), torch.zeros(8, dtype=torch.int64), Stream.EOT)
        assert fooled(victim.defense(found.image, draw), scene.y, torch.full_like(scene.y, -1)).sum() >= 4


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda v: Eot(v, 0, Exact), "samples=0"),
        (lambda v: Bpda(v, "tanh"), "no backward pass 'tanh'"),
        (lambda v: FiniteDifferences(v, 5, 0.0), "attack.oracle.h=0.0"),
        (lambda v: Adapted(v, "mean"), "adapts nothing"),
        (lambda v: Diverse(v, 2.0, 0.5, Exact), "attack.oracle.share=2.0"),
        (lambda v: TranslationInvariant(v, 4, Exact), "must be odd"),
        (lambda v: Exact(v)(*_one(), "margn", torch.ones(1, dtype=torch.bool)), "did you mean 'margin'"),
        (lambda v: Gmsa(limits("linf", "0.1"), 1, 1, 0.1, "margin")(Exact(v), *_one()), "attack/oracle=adapted"),
        (lambda v: Gcm(v.rows_model, 1e20, 1e-8, ["layer9"]), "no module layer9"),
        (lambda v: Gcm(v.rows_model, 0.0, 1e-8, ["input"]), "defense.w=0.0"),
    ],
)
def test_wrong_settings_get_one_line(digits: Scene, make: Any, word: str) -> None:
    victim: Any = victim_of(digits)
    victim.rows_model = victim.defense.model
    with pytest.raises(BenchError) as caught:
        make(victim)
    assert word in str(caught.value) and "\n" not in str(caught.value)


def _one() -> tuple[torch.Tensor, Rows]:
    zero = torch.zeros(1, dtype=torch.int64)
    return torch.rand(1, 1, 8, 8), Rows(zero, zero, zero - 1, zero)


def test_pgd_through_gcm_stands_and_through_bpda_falls(digits: Scene) -> None:
    attack = Pgd(limits("linf", "1/8"), 20, 0.125, 0.0, True, 1, "cross_entropy", True)
    bare = strike(digits, attack)[1].float().mean()
    naive = strike(digits, attack, GCM)[1].float().mean()
    adaptive = strike(digits, attack, GCM, partial(Bpda, kind="identity"))[1].float().mean()
    assert abs(adaptive - bare) <= 0.01 and naive < bare - 0.2
