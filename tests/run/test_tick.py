"""A tick is a function on the device: no host stop, and the same records however often the host looks or how far calls run
ahead."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from attacks.base import Branching, Foresight
from attacks.query.averaged import Averaged
from bench.assemble.attack import build_attack
from bench.config import grid
from bench.core import rows
from bench.core.victim import FixedRows, Ledger, Victim
from bench.data.samples import load
from bench.run import loop, slots, tick
from defenses.none import Undefended
from defenses.rnd import Rnd
from tests.support import caches
from tests.support.methods import METHODS, SETTINGS
from tests.support.networks import network

ROWS, IMAGES = 16, 40
BUDGET = 60
QUERY = [
    method
    for method in METHODS
    if method.startswith("attack=") and method not in ("attack=none", "attack=transfer")
    and grid.cells([method])[0].spec.attack.queries
]  # fmt: skip
CASES = [[method, *SETTINGS.get(method, [])] for method in QUERY] + [
    ["attack=square", "threat.norm=l2", "threat.eps=1"],
    ["attack=square", "threat.goal=random"],
    ["attack=simba", "threat.norm=l2", "threat.eps=1"],
    ["attack=square", "average"],
    ["attack=simba", "average"],
    ["attack=signhunter", "average"],
    ["attack=nes", *SETTINGS["attack=nes"], "average"],
]
FAKE = FakeTensorMode()  # one for all: tables that an attack keeps for a device are made once
DEFENCES: dict[str, Any] = {"none": Undefended, "rnd": lambda model: Rnd(model, 0.05, 0.0)}


def attack_of(case: list[str]) -> Any:
    return _attack_of(tuple(case))


@cache  # it holds settings alone, and composing them costs more than most of these tests
def _attack_of(case: tuple[str, ...]) -> Any:
    typed = {o.partition("=")[0]: o for o in ["threat.eps=1/20", f"threat.queries={BUDGET}", *case] if "=" in o}
    spec = grid.cells(list(typed.values()))[0].spec
    test = load(spec.dataset, spec.samples, torch.device("cpu"))
    made = build_attack(spec, network(), test, Path("unused"))
    return Averaged(made, 3, 1.0 if made.keeps_incumbent else None, 10) if "average" in case else made


def victim_of(defend: Any, device: torch.device) -> Victim:
    with device:  # built there: pretended tensors can't be moved inside a module
        bare = network()
    fixed = FixedRows(bare, ROWS, torch.float32, Ledger(IMAGES, device))
    return Victim(defend(fixed), fixed, 0)


def todo_of(victim: Victim, goal: str, device: torch.device) -> slots.Todo:
    number = torch.arange(IMAGES, device=device)
    x = (torch.arange(IMAGES * 64, device=device).view(-1, 1, 8, 8) * 0.37) % 1
    y = victim.defense.model.network(x).argmax(1)
    target = (y + 1) % 10 if goal != "untargeted" else torch.full_like(y, -1)
    return slots.Todo(number, x, y, target, torch.ones_like(y, dtype=torch.bool))


def plan_of(attack: Any) -> list[tick.Node]:
    """Both outcomes of the next query, then some rows' second one."""
    others = [tick.Node(0, True, IMAGES), tick.Node(1, True, IMAGES)] if isinstance(attack, Branching) else []
    return [tick.Node(-1, False, IMAGES), tick.Node(0, False, IMAGES), *others, tick.Node(1, False, 3)]


def played(case: list[str], defend: Any, pace: loop.Pace, capacity: int = 32) -> tuple[slots.Finished, dict[str, int]]:
    attack, victim = attack_of(case), victim_of(defend, torch.device("cpu"))
    inner = getattr(attack, "inner", attack)
    todo = todo_of(victim, inner.threat.goal, torch.device("cpu"))
    looks = loop.run(victim, attack, inner.threat, loop.Feed(iter([todo])), capacity, pace)
    found = rows.cat([look.finished for look in looks if look.finished is not None])
    return rows.take(found, found.sample.argsort()), victim.ledger.totals()


@pytest.mark.parametrize("defence", DEFENCES)
@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_looking_late_and_running_ahead_change_no_record(case: list[str], defence: str) -> None:
    reference, plain = played(case, DEFENCES[defence], loop.Pace(1, run_ahead=False))
    assert reference.sample.tolist() == list(range(IMAGES)) and plain["discarded"] == 0
    for pace in (loop.Pace(1), loop.Pace(4), loop.Pace(16, run_ahead=False)):
        ours, ledger = played(case, DEFENCES[defence], pace)
        for name in slots.Finished._fields:
            if name != "seconds":
                same = torch.equal(getattr(ours, name).nan_to_num(-7), getattr(reference, name).nan_to_num(-7))
                assert same, (name, pace)
        assert ledger["attack"] == plain["attack"] == int(reference.queries.sum())
        if pace == loop.Pace(1):  # what was filler is asked ahead, and no call is added
            assert ledger["discarded"] > 0 or not isinstance(attack_of(case), Foresight) or ledger == plain
            assert sum(ledger.values()) <= sum(plain.values())


def test_running_ahead_saves_most_calls_of_the_last_images() -> None:
    """Square's proposals are mostly rejected, so that few images need few calls."""
    _, plain = played(["attack=square"], Undefended, loop.Pace(1, run_ahead=False), 16)
    _, ahead = played(["attack=square"], Undefended, loop.Pace(1), 16)
    assert sum(ahead.values()) < sum(plain.values())


def test_tables_of_a_pretended_device_are_forgotten_before_a_real_one_is_used() -> None:
    caches.forget()
    with FAKE:
        slots.checkpoints(torch.device("cuda"))
        assert isinstance(slots.checkpoints(torch.device("cpu")), FakeTensor)
    caches.forget()
    assert type(slots.checkpoints(torch.device("cpu"))) is torch.Tensor


@pytest.mark.parametrize("defence", DEFENCES)
@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_no_tick_waits_for_the_device_or_meets_another(case: list[str], defence: str) -> None:
    """On pretended CUDA tensors every `.item()`, `bool(tensor)`, `nonzero` and boolean index raises, and so does a CPU tensor
    that meets one of them."""
    attack = attack_of(case)
    inner = getattr(attack, "inner", attack)
    with FAKE:
        device = torch.device("cuda")
        victim = victim_of(DEFENCES[defence], device)
        held = slots.load(attack, todo_of(victim, inner.threat.goal, device), 0)
        game = tick.Game(victim, attack, inner.threat)
        for _ in range(3):
            held = tick.tick(game, held)
        if isinstance(attack, Foresight):
            held, used = tick.ahead(game, held, plan_of(attack))
            assert used.shape == (2,)
        assert held.live.shape == (IMAGES,) and held.live.device.type == "cuda"
