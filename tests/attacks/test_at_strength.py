"""Attacks at their strength: settings that would make a robust network of a plain one are refused, or can't happen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attacks.base import Rows
from attacks.gradient.autoattack import AutoAttack
from attacks.gradient.cw import Cw
from attacks.gradient.ead import Ead
from attacks.gradient.pgd import Pgd
from attacks.losses import margin
from attacks.oracles.fused import Fused
from attacks.oracles.gradients import Ensemble, Exact
from attacks.query.hopskipjump import TRIES, HopSkipJump
from bench.assemble.strength import fit_to
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys
from bench.report.records import Attacked
from bench.run import cell
from bench.store.records import Cell
from defenses.none import Undefended
from defenses.rnd import Rnd
from tests.support.scene import Scene
from tests.support.strike import limits, strike, victim_of

# --- C&W and EAD: a margin that nothing reaches


@pytest.mark.parametrize("kappa", [0.0, 1e6])
@pytest.mark.parametrize("kind", ["cw", "ead"])
def test_a_margin_out_of_reach_returns_the_lowest_iterate_and_not_the_clean_image(
    digits: Scene, kind: str, kappa: float
) -> None:
    few = Scene(digits.network, digits.x[:8], digits.y[:8])
    made: Any = (
        Cw(limits("l2", "9"), 1, 40, 0.05, 1.0, kappa, abort_early=False, inside=False)
        if kind == "cw"
        else Ead(limits("l2", "9"), 1, 40, 0.05, 1.0, kappa, 0.01, "EN", abort_early=False)
    )
    found, _, _, _ = strike(few, made, rows=8)
    untargeted = torch.full_like(few.y, -1)
    clean = margin(few.network(few.x), few.y, untargeted)
    ours = margin(few.network(found.image), few.y, untargeted)
    if kappa:
        assert (ours < clean).all() and not torch.equal(found.image, few.x)
    assert (ours <= clean).all()


class Far(nn.Module):
    """Class 0 by a wide margin, which falls by 1/50 of the sum of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Flatten(), nn.Linear(64, 3).requires_grad_(False)
        self.head.weight.zero_()
        self.head.weight[1] = 0.02
        self.head.bias.copy_(torch.tensor([5.0, 0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@pytest.mark.parametrize("kind", ["cw", "ead"])
def test_a_row_that_ended_its_search_step_early_does_not_lose_its_lowest_iterate(kind: str) -> None:
    """The zeros that an oracle gives rows that are not live are no losses: a row finds the same beside others as alone."""
    x = torch.stack([torch.full((1, 8, 8), value) for value in (0.05, 0.3, 0.6)])
    y, settings = torch.zeros(3, dtype=torch.long), (4, 300, 0.01, 0.1, 10.0)
    made: Any = (
        Cw(limits("l2", "99"), *settings, abort_early=True, inside=False)
        if kind == "cw"
        else Ead(limits("l2", "99"), *settings, 0.01, "EN", abort_early=True)
    )
    network = Far()
    beside = strike(Scene(network, x, y), made, rows=8)[0].image
    alone = torch.cat([strike(Scene(network, x[i : i + 1], y[i : i + 1]), made, rows=8)[0].image for i in range(3)])
    assert torch.allclose(margin(network(beside), y, y - 1), margin(network(alone), y, y - 1), atol=1e-5)


# --- AutoAttack's Square on ties


def test_square_meets_no_rows_where_all_that_is_left_are_ties() -> None:
    """A margin of 0 does not fool, and Square only goes on with margins above 0."""
    network = Far()
    network.head.weight.zero_()
    network.head.bias.zero_()
    x, y = torch.full((2, 1, 8, 8), 0.5), torch.zeros(2, dtype=torch.long)
    found, hit, _, _ = strike(Scene(network, x, y), AutoAttack(limits("linf", "1/10"), "custom", ["square"], 2), rows=8)
    assert found.image.shape == x.shape and not hit.any()


# --- random defences: one lucky draw is no success


def test_on_a_random_victim_pgd_never_stops_early(digits: Scene) -> None:
    attack = Pgd(limits("linf", "1/12"), 5, 0.5, 0.0, True, 1, "margin", early_stop=True)
    random = victim_of(digits, lambda model: Rnd(model, 0.05, 0.0), 64)
    assert not fit_to(attack, random).early_stop
    assert fit_to(attack, victim_of(digits, Undefended, 64)).early_stop


def test_pgd_by_default_is_as_strong_on_rnd_as_without_early_stop(compose, tmp_path: Path) -> None:
    common = [
        "attack=pgd",
        "defense=rnd",
        "attack/oracle=eot",
        "attack.oracle.samples=5",
        "samples.n=40",
        "defense.input_noise=0.08",
    ]
    frames = []
    for nth, stop in enumerate(("true", "false")):
        whole = compose(*common, f"attack.early_stop={stop}", store=tmp_path / str(nth))
        frames.append(Cell(Path(whole["store"]), cell.run(whole)).frame())
    same = [list(frame["re_evaluation_success"].fillna(-1)) for frame in frames]
    assert same[0] == same[1] and frames[0]["fooled"].sum() > 0


def test_of_restarts_that_run_to_the_end_the_lowest_loss_is_kept(digits: Scene) -> None:
    few = Scene(digits.network, digits.x[:16], digits.y[:16])
    untargeted = torch.full_like(few.y, -1)

    def loss(restarts: int) -> Tensor:
        attack = Pgd(limits("linf", "1/30"), 3, 0.5, 0.0, True, restarts, "margin", early_stop=False)
        return margin(few.network(strike(few, attack, rows=16)[0].image), few.y, untargeted)

    one, many = loss(1), loss(6)
    assert (many <= one + 1e-5).all() and (many < one - 1e-4).any()


# --- budgets that pay for nothing


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["attack=square", "queries_per_image=5", "threat.queries=3"],
            "threat.queries=3 pays for no image: each takes 5",
        ),
        (["attack=nes", "queries_per_image=5", "threat.queries=100"], "one step of nes"),
        (["attack=bandits", "queries_per_image=40", "threat.queries=100"], "one step of bandits takes 3 answers"),
        (["attack=simba", "queries_per_image=5", "threat.queries=9"], "simba needs at least 2 answers"),
        (["attack=genattack", "threat.queries=3"], "one generation of genattack"),
        (
            ["attack=square", "defense=unig_copies", "threat.queries=4"],
            "threat.queries=4 pays for no image: each takes 5",
        ),
    ],
)
def test_a_budget_that_pays_for_no_step_is_refused_before_any_answer(compose, words: list[str], said: str) -> None:
    whole = compose("samples.n=10", *words)
    with pytest.raises(BenchError, match=said):
        cell.run(whole)
    assert not list(Path(whole["store"]).glob("cells/*/part-*"))


def test_averagings_schedule_is_that_of_the_images_it_can_pay_for(compose) -> None:
    """Square's windows shrink over 20 images and not over 100 answers."""
    whole = compose("samples.n=20", "queries_per_image=5", "threat.queries=100", "defense=rnd")
    from bench.assemble.attack import build_attack
    from bench.config.specs import CellSpec

    spec = CellSpec.parse(whole)
    made = build_attack(spec, None, None, Path("x"))  # pyright: ignore[reportArgumentType]
    assert made.inner.threat.queries == 20 and spec.threat.queries == 100
    frame = Cell(Path(whole["store"]), cell.run(whole)).frame()
    assert frame["queries"].max() <= 100 and frame.loc[frame["clean"] & ~frame["fooled"], "queries"].eq(100).all()


# --- losses outside their domain


@pytest.mark.parametrize(
    ("classes", "words", "said"),
    [
        (
            2,
            ["attack=pgd", "attack.loss=dlr"],
            "attack.loss=dlr needs 3 classes, the data set has 2; set attack.loss=margin",
        ),
        (3, ["attack=pgd", "attack.loss=dlr", "threat.goal=random"], "needs 4 classes where targeted"),
        (2, ["attack=autoattack_rand"], "apgd-dlr need 3 classes"),
        (5, ["attack=autoattack"], "apgd-t, fab-t need 10 classes"),
    ],
)
def test_a_loss_that_so_few_classes_lack_is_refused(classes: int, words: list[str], said: str) -> None:
    from bench.assemble.attack import build_attack
    from bench.config import grid

    spec = grid.cells(words)[0].spec
    spec = spec.replace(dataset=spec.dataset.model_copy(update={"classes": classes}))
    with pytest.raises(BenchError, match=said):
        build_attack(spec, None, None, Path("x"))  # pyright: ignore[reportArgumentType]


def test_autoattack_keeps_its_standard_parts_on_ten_classes() -> None:
    AutoAttack(limits("linf", "8/255"), "standard", None, 10).check_classes(10)


# --- decision attacks without a start


class Stubborn(nn.Module):
    """Noise looks like class 0: only bright images are class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Flatten(), nn.Linear(64, 2)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.weight[1] = 1 / 64
            self.head.bias.copy_(torch.tensor([0.9, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def test_hopskipjump_falls_back_on_given_starts() -> None:
    network, x = Stubborn(), torch.full((3, 1, 8, 8), 0.2)
    y = network(x).argmax(1)
    starts = torch.cat([torch.full((4, 1, 8, 8), 0.1), torch.ones(4, 1, 8, 8)]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    for given, begins in ((None, False), (starts, True)):
        attack = HopSkipJump(limits("l2", "1"), 5, 10, 1.0, given)
        state = attack.start(x, y, y * 0 - 1, keys(0, Stream.ATTACK, torch.arange(3)))
        for _ in range(TRIES + 2):
            asked = attack.query(state)
            state = attack.observe(state, asked, network(asked).argmax(1))
        assert bool((state.phase > 0).all()) is begins


def test_an_attack_that_never_began_does_not_count_as_robust() -> None:
    columns = {
        "sample": np.arange(4), "position": np.arange(4), "clean": [True] * 4, "fooled": [True, False, False, False],
        "first_any": [3, 5, np.nan, np.nan], "queries": [9.0, 20, 20, 20],
    }  # fmt: skip
    from bench.report.metrics.attacked import robust_acc

    plain = Attacked.of(columns)
    assert robust_acc(plain).value == 75 and robust_acc(plain).n == 4
    found = robust_acc(plain.only_started())
    assert found.value == 50 and found.n == 2


# --- who owns several members


def test_mean_logits_and_clipped_margins_are_what_they_say(digits: Scene) -> None:
    few = Scene(digits.network, digits.x[:6], digits.y[:6])
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)
    second = Scene(_Split(other), few.x, few.y)
    members = [Exact(victim_of(scene, Undefended, 8)) for scene in (few, second)]
    rows = Rows(torch.arange(6), few.y, few.y * 0 - 1, keys(0, Stream.ATTACK, torch.arange(6)))
    live = torch.tensor([True, True, True, True, True, False])

    def value(x: Tensor, by: str) -> Tensor:
        each = torch.stack([few.network(x), other(x)])
        if by == "logits":
            return margin(each.mean(0), rows.y, rows.target)
        clipped = torch.stack([margin(one, rows.y, rows.target).clamp_min(-1.0) for one in each])
        return clipped.mean(0)

    for by in ("logits", "margins"):
        answer = Fused(members, by)(few.x, rows, "margin", live)  # pyright: ignore[reportArgumentType]
        leaf = few.x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(value(leaf, by).sum(), leaf)
        assert torch.allclose(answer.loss[:5], value(few.x, by)[:5], atol=1e-5)
        assert torch.allclose(answer.grad[:5], grad[:5], atol=1e-5) and not answer.grad[5].any()
    losses = Ensemble(members)(few.x, rows, "margin", live)
    assert not torch.allclose(losses.loss[:5], value(few.x, "logits")[:5], atol=1e-4)  # another attacker


class _Split(nn.Module):
    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.features, self.head = network[0], network[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def test_what_is_crafted_on_a_random_source_never_stops_at_a_lucky_draw(compose, tmp_path: Path) -> None:
    """With early_stop true, which then has no effect, the images are those without."""
    common = ["attack=replay", "model@attack.sources.a.model=small_cnn", "recipe@attack.sources.a.recipe=standard_digits",
              "attack.sources.a.recipe.epochs=1", "+defense@attack.sources.a.defense=rnd", "attack@attack.craft=pgd",
              "attack.craft.steps=5", "samples.n=12"]  # fmt: skip
    found = []
    for nth, stop in enumerate(("true", "false")):
        whole = compose(*common, f"attack.craft.early_stop={stop}", store=tmp_path / str(nth))
        found.append(list(Cell(Path(whole["store"]), cell.run(whole)).frame()["l2"].fillna(-1)))
    assert found[0] == found[1] and max(found[0]) > 0


def test_crafting_with_a_loss_that_so_few_classes_lack_is_refused(compose) -> None:
    whole = compose("attack=transfer_undefended", "attack.craft.loss=dlr", "samples.n=5", "threat.goal=random")
    whole["dataset"]["classes"] = 3
    with pytest.raises(BenchError, match=r"needs 4 classes where targeted|classes"):
        cell.run(whole)
