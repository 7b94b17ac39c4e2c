"""Query attacks: slots, ask, answer, judge, retire, refill. The one loop that all of them share."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks.base import QueryAttack
from attacks.losses import margin
from bench.core import rows, success
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream, keys
from bench.core.threat import Threat
from bench.core.victim import Victim
from bench.store.trace import TRACE_AT


class Todo(NamedTuple):
    """Samples to attack; in a group, also the mates that only stand in."""

    sample: Tensor  # (B,) int64
    x: Tensor  # (B,C,H,W) in [0, 1]
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    live: Tensor  # (B,) bool: right when clean, to be attacked


class Finished(NamedTuple):
    sample: Tensor  # (B,)
    y: Tensor  # (B,)
    target: Tensor  # (B,)
    fooled: Tensor  # (B,) bool
    queries: Tensor  # (B,) answers drawn
    margin: Tensor  # (B,) lowest margin loss that the attacker saw
    first_any: Tensor  # (B,) the first query that fooled, wherever it lay; -1 = none
    seconds: Tensor  # (B,)
    trace: Tensor  # (B,T) lowest margin at the checkpoints TRACE_AT; NaN beyond the budget
    x: Tensor  # (B,C,H,W) clean
    found: Tensor  # (B,C,H,W) the image of the last query


class Tick(NamedTuple):
    asked: int  # answers drawn in this tick
    finished: Finished | None


class Lanes(NamedTuple):
    """What the loop itself knows of each slot."""

    todo: Todo
    state: Any
    spent: Tensor  # (B,)
    low: Tensor  # (B,) lowest margin so far
    first_any: Tensor  # (B,)
    trace: Tensor  # (B,T) `low` when `spent` reached each checkpoint
    began: Tensor  # (B,) float64 seconds
    live: Tensor  # (B,) bool


class Feed:
    """A queue of samples on the device: `next(k)` gives at most k of them."""

    def __init__(self, blocks: Iterator[Todo]) -> None:
        self.blocks, self.held = blocks, None

    def next(self, k: int) -> Todo | None:
        while self.held is None or len(self.held.y) < k:
            more = next(self.blocks, None)
            if more is None:
                break
            self.held = more if self.held is None else rows.cat([self.held, more])
        if self.held is None or not len(self.held.y):
            return None
        ready, self.held = rows.take(self.held, slice(0, k)), rows.take(self.held, slice(k, None))
        return ready


@dataclass
class Pace:
    """How full the slots were: rows asked over slots, for as long as the queue was not empty."""

    asked: int = 0
    room: int = 0

    @property
    def filled(self) -> float:
        return self.asked / self.room if self.room else 1.0


def run(
    victim: Victim, attack: QueryAttack[Any], threat: Threat, feed: Feed, slots: int, pace: Pace | None = None
) -> Iterator[Tick]:
    """Attacks every sample of `feed`, `slots` at a time, and yields every tick, with the samples that it finished.

    Independent rows: a free slot takes the next sample at once, and the slots shrink once the queue is empty. A coupled
    defence gets one group as its feed, which is never refilled; what becomes of finished rows is `group.neighbours`.
    """
    first = feed.next(slots)
    if first is None:
        return
    lanes = _load(attack, rows.cat([first]), victim.seed)  # a copy: refills write into it
    mates = victim.defense.group.neighbours if victim.defense.group else None
    shown, waiting, alive = first.x, mates is None, int(first.live.sum())
    for tick in count():
        if not alive:
            return
        asked = attack.ask(lanes.state)
        if mates == "stay":
            asked = torch.where(lanes.live[:, None, None, None], asked, shown)
        if pace and waiting:
            pace.asked, pace.room = pace.asked + alive, pace.room + slots
        nth = lanes.spent if mates is None else torch.full_like(lanes.spent, tick)  # stand-ins draw fresh noise, too
        draw = Draw(victim.seed, lanes.todo.sample, nth, Stream.DEFENCE)
        reply = victim.answer(asked, draw, lanes.live)
        told = reply.argmax(1) if attack.feedback == "label" else reply
        may_end = attack.candidate(lanes.state, told)
        spent = lanes.spent + lanes.live * victim.price
        lanes = lanes._replace(state=attack.tell(lanes.state, asked, told), spent=spent)
        lanes, hit, out = _judge(lanes, threat, asked, reply, may_end, victim.price)
        ended = out.nonzero()[:, 0]
        if not len(ended):
            yield Tick(alive, None)
            continue
        yield Tick(alive, _retire(lanes, asked, hit, ended, threat.queries))
        lanes, alive = lanes._replace(live=lanes.live & ~out), alive - len(ended)
        if mates == "stay":
            shown = torch.where(out[:, None, None, None], asked, shown)
        elif mates == "leave":
            lanes = _compact(lanes, alive)
        elif waiting and (fresh := feed.next(len(ended))) is not None:
            lanes = rows.put(lanes, ended[: len(fresh.y)], _load(attack, fresh, victim.seed))
            alive += len(fresh.y)
        else:
            waiting = False
            full = -(-alive // victim.rows) * victim.rows
            if full < len(lanes.live):
                lanes = _compact(lanes, full)


def within_memory(
    victim: Victim, attack: QueryAttack[Any], threat: Threat, blocks: Callable[[set[int]], Iterator[Todo]], slots: int
) -> Iterator[Tick]:
    """`run` on independent rows; when the device runs out of memory, with half the slots. The rows of a network call never
    change, so neither do the records. `blocks` gives the samples that are not in the set.
    """
    done: set[int] = set()
    while True:
        try:
            for tick in run(victim, attack, threat, Feed(blocks(done)), slots):
                if tick.finished is not None:
                    done.update(tick.finished.sample.tolist())
                yield tick
            return
        except torch.OutOfMemoryError:
            if slots <= victim.rows:
                raise BenchError(
                    f"out of device memory at slots={slots}, one network call; a smaller numerics.rows needs less (other key)"
                ) from None
            slots = max(slots // 2 // victim.rows, 1) * victim.rows
            victim.ledger.forget_all_but(done)
            warnings.warn(f"out of device memory: going on with slots={slots}", stacklevel=2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _load(attack: QueryAttack[Any], todo: Todo, seed: int) -> Lanes:
    b, device = len(todo.y), todo.y.device
    state = attack.start(todo.x, todo.y, todo.target, keys(seed, Stream.ATTACK, todo.sample))
    none = torch.full((b,), -1, dtype=torch.int64, device=device)
    began = torch.full((b,), time.monotonic(), dtype=torch.float64, device=device)
    low = torch.full((b,), torch.inf, device=device)
    trace = torch.full((b, len(TRACE_AT)), torch.nan, device=device)
    return Lanes(todo, state, torch.zeros_like(none), low, none, trace, began, todo.live)


@cache
def _checkpoints(device: torch.device) -> Tensor:
    return torch.tensor(TRACE_AT, device=device)


def _judge(
    lanes: Lanes, threat: Threat, asked: Tensor, reply: Tensor, may_end: Tensor, price: int
) -> tuple[Lanes, Tensor, Tensor]:
    """-> the lanes with this reply noted, (B,) bool found an example, (B,) bool finished."""
    todo = lanes.todo
    wrong = success.fooled(reply, todo.y, todo.target) & lanes.live
    low = torch.minimum(lanes.low, torch.where(lanes.live, margin(reply, todo.y, todo.target), torch.inf))
    first_any = torch.where(wrong & (lanes.first_any < 0), lanes.spent, lanes.first_any)
    passed = lanes.spent[:, None] - _checkpoints(low.device)
    trace = torch.where((passed >= 0) & (passed < price), low[:, None], lanes.trace)
    hit = wrong & may_end
    index = hit.nonzero()[:, 0]
    if len(index):
        hit[index] = threat.contains(todo.x[index], asked[index])
    over = lanes.live & (lanes.spent + price > threat.queries)  # the next query is not affordable
    return lanes._replace(low=low, first_any=first_any, trace=trace), hit, hit | over


def _retire(lanes: Lanes, asked: Tensor, hit: Tensor, index: Tensor, budget: int) -> Finished:
    todo = rows.take(lanes.todo, index)
    seconds = time.monotonic() - lanes.began[index]
    told = (hit[index], lanes.spent[index], lanes.low[index], lanes.first_any[index], seconds)
    at, low = _checkpoints(todo.y.device), lanes.low[index][:, None]
    ahead = (at > lanes.spent[index][:, None]) & (at <= budget)  # an ended attack keeps its last margin
    trace = torch.where(ahead, low, lanes.trace[index])
    return Finished(todo.sample, todo.y, todo.target, *told, trace, todo.x, asked[index])


def _compact(lanes: Lanes, size: int) -> Lanes:
    """The live rows, in their order, and as many finished ones as `size` still needs (they fill the last network call)."""
    index = torch.argsort((~lanes.live).long(), stable=True)[:size]
    return rows.take(lanes, index)
