"""Query attacks on a coupled defence: several groups side by side, each answered as a batch of its own.

What a group is asked and answers doesn't depend on the others, so no record does; they only share network calls, which have a
fixed number of rows. A group that has ended makes room for the next.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks.base import QueryAttack
from bench.core import rows
from bench.core.threat import Threat
from bench.core.victim import Victim
from bench.run.loop import Look, Pace, glance
from bench.run.recorded import Ticker
from bench.run.slots import Slots, Todo, load, retire
from bench.run.tick import Game, tick


@dataclass
class Flight:
    """A group under attack, whose rows lie side by side in the slots."""

    number: int  # of the group
    size: int  # rows that it has left
    turn: int = 0  # queries that its batch has answered


class Held(NamedTuple):
    """What ticks change."""

    slots: Slots
    turn: Tensor  # (B,) the number of its group's tick, which keys each row's noise, placeholders' too


class Ended(NamedTuple):
    """A look, and the groups of which no row is under attack any more."""

    look: Look
    groups: list[int]


def run(
    victim: Victim, attack: QueryAttack[Any], threat: Threat, groups: Iterator[Todo], room: int, pace: Pace
) -> Iterator[Ended]:
    """Attacks every group, as many side by side as `room` rows hold and at least one; they are numbered as they come. Each has a
    live row.

    leave: rows that have finished drop out of their batch at once; stay: they are placeholders until all of it have. Raises
    BenchError where the attack queried an image outside [0, 1].
    """
    group = victim.defense.group
    assert group is not None
    shrinks = group.neighbours == "leave"
    game, flights, held, ticker = Game(victim, attack, threat), list[Flight](), None, None
    before = 0  # queries that the rows in `held` had drawn at the last look
    waiting = enumerate(groups)
    following = next(waiting, None)
    while True:
        while following is not None and (not flights or sum(f.size for f in flights) + len(following[1].y) <= room):
            number, todo = following
            victim.defense.reset()
            fresh = load(attack, todo, victim.seed)
            held = fresh if held is None else rows.cat([held, fresh])
            flights.append(Flight(number, len(todo.y)))
            following = next(waiting, None)
        if held is None:
            return
        device, sizes = held.spent.device, [f.size for f in flights]
        every, ticker = 1 if shrinks else pace.ticks(device), ticker or Ticker(victim, pace.recorder(device))
        held = ticker.run(_step(game, sizes), Held(held, _turns(flights, device)), tuple(sizes), every).slots
        for flight in flights:
            flight.turn += every
        live, taken, spent = glance(victim, held)
        ended = [i for i, (still, ours) in enumerate(zip(live, taken, strict=True)) if ours and not still]
        finished = retire(held, _index(ended, held), threat.queries) if ended else None
        keep, left, over = [], [], []
        start = 0
        for flight in flights:
            alive = [i for i in range(start, start + flight.size) if live[i]]
            stay = alive if shrinks else list(range(start, start + flight.size)) if alive else []
            start += flight.size
            if stay:
                left.append(Flight(flight.number, len(stay), flight.turn))
            else:
                over.append(flight.number)
            keep += stay
        flights = left
        if ended:
            held = held._replace(taken=held.live.clone())
            held = rows.take(held, _index(keep, held)) if len(keep) < len(live) else held
        yield Ended(Look(sum(spent) - before, finished), over)
        before = sum(spent[i] for i in keep)
        if not flights:
            held = None


def _step(game: Game, sizes: list[int]) -> Callable[[Held], Held]:
    return lambda held: Held(tick(game, held.slots, held.turn, sizes), held.turn + 1)


def _turns(flights: list[Flight], device: torch.device) -> Tensor:
    return torch.cat([torch.full((f.size,), f.turn, dtype=torch.int64, device=device) for f in flights])


def _index(places: list[int], held: Slots) -> Tensor:
    return torch.tensor(places, dtype=torch.int64, device=held.spent.device)
