"""Recorded ticks: the same records, by replays that run no Python; and what can't be recorded runs as it is, which is said."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from bench.core import rows
from bench.core.errors import BenchError
from bench.core.rng import Draw
from bench.core.victim import FixedRows
from bench.run import groups, loop, recorded, slots
from defenses.base import Defense
from defenses.none import Undefended
from defenses.unig import Unig
from tests.run.test_on_device import unig
from tests.run.test_tick import CASES, DEFENCES, attack_of, todo_of, victim_of
from tests.support import tape

CPU = torch.device("cpu")
Played = tuple[slots.Finished, dict[str, int], int]


@pytest.fixture(autouse=True)
def _as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    tape.as_on_cuda(monkeypatch)
    monkeypatch.setattr(recorded, "WARM", 3)


@pytest.fixture
def tickers(monkeypatch: pytest.MonkeyPatch) -> list[recorded.Ticker]:
    """All that are made from now on."""
    made, original = [], recorded.Ticker.__init__

    def noted(self: recorded.Ticker, *args: Any) -> None:
        original(self, *args)
        made.append(self)

    monkeypatch.setattr(recorded.Ticker, "__init__", noted)
    return made


def played(
    case: list[str], defend: Any, record: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[slots.Finished, dict[str, int]]:
    attack, victim = attack_of(case), victim_of(defend, CPU)
    threat = getattr(attack, "inner", attack).threat
    todo = rows.take(todo_of(victim, threat.goal, CPU), slice(0, 9))
    monkeypatch.setattr(loop.Pace, "recorder", lambda *_: tape.recorder if record else None)
    if victim.defense.group is None:
        looks = loop.run(victim, attack, threat, loop.Feed(iter([todo])), 6, loop.Pace(8))
    else:
        parts = (rows.take(todo, slice(at, at + 3)) for at in range(0, len(todo.y), 5))
        looks = (ended.look for ended in groups.run(victim, attack, threat, parts, 6, loop.Pace(8)))
    found = rows.cat([look.finished for look in looks if look.finished is not None])
    return rows.take(found, found.sample.argsort()), victim.ledger.totals()


def same(ours: slots.Finished, reference: slots.Finished) -> None:
    for name in slots.Finished._fields:
        if name != "seconds":
            assert torch.equal(getattr(ours, name).nan_to_num(-7), getattr(reference, name).nan_to_num(-7)), name


ALL = [(case, "none") for case in CASES] + [
    (["attack=square"], "rnd"),
    (["attack=square"], "unig stay"),
    (["attack=square"], "unig leave"),
    (["attack=simba"], "rnd"),
    (["attack=simba"], "unig stay"),
    (["attack=bandits"], "unig leave"),
    (["attack=rays"], "unig stay"),
]


@pytest.mark.parametrize(("case", "defence"), ALL, ids=lambda each: each if isinstance(each, str) else " ".join(each))
def test_a_recorded_tick_changes_no_record_and_no_counter(
    case: list[str], defence: str, tickers: list[recorded.Ticker], monkeypatch: pytest.MonkeyPatch
) -> None:
    defend = DEFENCES[defence] if defence in DEFENCES else unig(defence.removeprefix("unig "))
    reference, counted = played(case, defend, False, monkeypatch)
    ours, recounted = played(case, defend, True, monkeypatch)
    same(ours, reference)
    assert counted == recounted
    assert tickers[-1].recorded > 0 and tickers[-1].recorder is not None


class Counting(Defense):
    """Its answers depend on how often Python came by: what a recording can't hold."""

    def __init__(self, model: FixedRows, often: int) -> None:
        super().__init__(model)
        self.calls, self.often = 0, often

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        self.calls += 1
        # ever smaller margins: each is an attack's best so far, and so in its state
        return self.model(x) / (1 + self.calls // self.often)


class Waiting(Defense):
    """It asks the host."""

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self.model(x) if bool((x > 2).any()) else self.model(x) * 1.0


class FromHost(Defense):
    """It carries numbers to the device at every answer."""

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self.model(x) + torch.tensor([0.0] * 10)


@pytest.mark.parametrize(
    ("defend", "why"),
    [
        (lambda model: Counting(model, 1), "a replay's answers are others"),
        (Waiting, "waits for the device"),
        (FromHost, "from the host"),
    ],
)
def test_what_cannot_be_recorded_runs_as_it_is(
    defend: Callable[[Any], Defense], why: str, tickers: list[recorded.Ticker], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = ["attack=square"]
    with pytest.warns(UserWarning, match=why) as said:
        ours, counted = played(case, defend, True, monkeypatch)
    assert len([each for each in said if "not recorded" in str(each.message)]) == 1  # once
    reference, recounted = played(case, Undefended, False, monkeypatch)
    if defend in (Waiting, FromHost):
        same(ours, reference)
        assert counted == recounted
    assert tickers[0].recorder is None and tickers[0].recorded == 0


def test_a_recording_that_goes_wrong_later_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its first replays were right: here it begins to count double."""
    said: list[int] = []

    def recorder(step: Callable[[], None]) -> Callable[[], object]:
        replay = tape.recorder(step)

        def twice_from_the_tenth_on() -> None:
            said.append(0)
            for _ in range(1 + (len(said) > 10)):
                replay()

        return twice_from_the_tenth_on

    ticker, state = recorded.Ticker(victim_of(Undefended, CPU), recorder), Two(torch.zeros(3), torch.ones(3))
    while ticker.replayed < recorded.AGAIN:
        state = ticker.run(lambda s: Two(s.a + s.b, s.b), state, "same", 1)
    with pytest.raises(BenchError, match="set cuda_graph=false"):
        ticker.run(lambda s: Two(s.a + s.b, s.b), state, "same", 1)


def test_a_right_recording_is_compared_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    compared, original = [], recorded._Graph.holds
    monkeypatch.setattr(recorded._Graph, "holds", lambda *args: compared.append(args[3]) or original(*args))
    ticker, state = recorded.Ticker(victim_of(Undefended, CPU), tape.recorder), Two(torch.zeros(3), torch.ones(3))
    for _ in range(300):
        state = ticker.run(lambda s: Two(s.a + s.b, s.b), state, "same", 1)
    assert compared == [recorded.FIRST, 1, 1, 1] and state.a.tolist() == [300.0] * 3


def test_a_shape_is_recorded_once_it_has_lasted_as_long_as_a_recording_takes() -> None:
    def slow(step: Callable[[], None]) -> Callable[[], object]:
        time.sleep(0.2)
        return tape.recorder(step)

    ticker, state = recorded.Ticker(victim_of(Undefended, CPU), slow), Two(torch.zeros(3), torch.ones(3))
    for shape in range(6):  # of six ticks each; the first says what a recording costs
        state = ticker.run(lambda s: Two(s.a + s.b, s.b), state, shape, 6)
    assert ticker.recorded == 1 and ticker.cost > 0.2
    for _ in range(6):
        state = ticker.run(lambda s: Two(s.a + s.b, s.b), state, 6, 1)
        time.sleep(0.1)
    assert ticker.recorded == 2 and state.a.tolist() == [42.0] * 3


class Two(NamedTuple):
    a: Tensor
    b: Tensor


def test_fields_that_swap_their_tensors_are_copied_in_time() -> None:
    ticker = recorded.Ticker(victim_of(Undefended, CPU), tape.recorder)
    state = ticker.run(lambda s: Two(s.b, s.a + 1), Two(torch.zeros(3), torch.ones(3)), "swap", 11)
    plain = Two(torch.zeros(3), torch.ones(3))
    for _ in range(11):
        plain = Two(plain.b, plain.a + 1)
    assert ticker.recorded == 1 and torch.equal(state.a, plain.a) and torch.equal(state.b, plain.b)


def test_a_state_that_changes_its_shape_is_not_recorded() -> None:
    ticker = recorded.Ticker(victim_of(Undefended, CPU), tape.recorder)
    with pytest.warns(UserWarning, match="another shape"):
        state = ticker.run(
            lambda s: Two(torch.cat([s.a, s.a[:1]]), s.b), Two(torch.zeros(3), torch.ones(3)), "grows", 9
        )
    assert len(state.a) == 12


def test_a_defence_that_remembers_is_not_recorded() -> None:
    victim = victim_of(unig("stay", stateful=True), CPU)
    assert isinstance(victim.defense, Unig) and recorded.Ticker(victim, tape.recorder).recorder is None
