"""Which queries ahead fill a call, and that the two outcomes of an attack's next query are all there are."""

from itertools import product
from typing import Any

import pytest
import torch

from attacks.base import Branching
from bench.core import rows
from bench.core.rng import Draw, Stream
from bench.run import slots, tick
from bench.run.depth import MOST, UNLIKELY, Depth
from defenses.none import Undefended
from tests.run.test_tick import CASES, attack_of, todo_of, victim_of


def chances(plan: tuple[tick.Node, ...], straight: float) -> list[float]:
    found: list[float] = []
    for node in plan:
        found.append(1.0 if node.parent < 0 else found[node.parent] * (1 - straight if node.other else straight))
    return found


@pytest.mark.parametrize("held", [50, 75, 90, 95])
@pytest.mark.parametrize("places", [1, 2, 7, 14, 40])
def test_the_likeliest_queries_fill_the_call(places: int, held: int) -> None:
    depth, p = Depth(branches=True), held / 100
    depth.noted(100, held)
    plan = depth.plan(3, 3 * places)
    paths = [path for n in range(9) for path in product((False, True), repeat=n)]  # every outcome of the next 8 queries
    every = sorted((p ** (len(path) - sum(path)) * (1 - p) ** sum(path) for path in paths), reverse=True)
    wanted = [each for each in every[:places] if each > UNLIKELY]
    if p**9 < wanted[-1]:  # else some lie deeper than this reference looks
        assert sorted(chances(plan, p), reverse=True)[: len(wanted)] == pytest.approx(wanted)
    assert all(node.parent < i for i, node in enumerate(plan)) and plan[0] == tick.Node(-1, False, 3)


def test_what_one_outcome_alone_is_known_of_is_a_chain() -> None:
    depth = Depth(branches=False)
    assert [node[:2] for node in depth.plan(5, 18)] == [(-1, False), (0, False), (1, False), (2, False)]
    assert [node.rows for node in depth.plan(5, 18)] == [5, 5, 5, 3]  # no row of the call is left
    depth.noted(1000, 20)
    plans = [depth.plan(5, 18) for _ in range(32)]
    assert sum(len(plan) > 1 for plan in plans) == 2  # not worth it, but tried now and then
    assert len(Depth(False).plan(1, 512)) == MOST


def test_an_outcome_that_is_never_the_guess_is_followed() -> None:
    depth = Depth(branches=True)
    depth.noted(1000, 0)
    assert [node.other for node in depth.plan(4, 16)] == [False, True, True, True]


BRANCHING = [case for case in CASES if "average" not in case and isinstance(attack_of(case), Branching)]


@pytest.mark.parametrize("case", BRANCHING, ids=" ".join)
def test_one_of_both_outcomes_is_what_happens(case: list[str]) -> None:
    """What a live row asks next is bit for bit one of the two queries that were foreseen. HopSkipJump guesses without the
    probe, and so misses the step after the last one."""
    cpu = torch.device("cpu")
    attack, victim = attack_of(case), victim_of(Undefended, cpu)
    held = slots.load(attack, todo_of(victim, attack.threat.goal, cpu), 0)
    seen = {False: 0, True: 0}
    for nth in range(40):
        queried = attack.query(held.state)
        state: Any = rows.cat([held.state])  # `observe` may write into it
        foreseen = {False: attack.query(attack.ahead(state)), True: attack.query(attack.otherwise(state, queried))}
        output = victim.query(queried, Draw(0, held.todo.sample, held.spent + nth, Stream.DEFENCE), held.live)
        held = tick._observed(tick.Game(victim, attack, attack.threat), held, queried, output, held.live)
        after = attack.query(held.state)
        same = {other: (images == after).flatten(1).all(1) & held.live for other, images in foreseen.items()}
        known = (same[False] | same[True])[held.live].float().mean()
        assert known > 0.8 if "hopskipjump" in case[0] else known == 1, nth
        for other, each in same.items():
            seen[other] += int(each.sum())
    assert min(seen.values()) > 0
