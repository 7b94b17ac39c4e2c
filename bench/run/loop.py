"""Query attacks: fill the slots, tick, look, hand out what has finished, refill. The one loop that all of them share."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks.base import Branching, Foresight, QueryAttack
from bench.core import rows
from bench.core.errors import BenchError
from bench.core.threat import Threat
from bench.core.victim import Victim
from bench.run.depth import Depth
from bench.run.recorded import Recorder, Ticker, cuda_graph
from bench.run.slots import Finished, Slots, Todo, load, retire
from bench.run.tick import Game, Node, ahead, tick

LOOK_EVERY = 8  # ticks on an accelerator: a look waits until everything queued has run


class Look(NamedTuple):
    queried: int  # queries drawn since the last look
    finished: Finished | None


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


@dataclass(frozen=True)
class Pace:
    """Run-time knobs that no record depends on. look_every: ticks between two looks, null = 1 on a CPU and LOOK_EVERY elsewhere.
    run_ahead: use rows of a network call that would be filler for each sample's next queries. cuda_graph: record ticks on CUDA
    (`bench.run.recorded`)."""

    look_every: int | None = None
    run_ahead: bool = True
    cuda_graph: bool = False

    def ticks(self, device: torch.device) -> int:
        return self.look_every or (1 if device.type == "cpu" else LOOK_EVERY)

    def recorder(self, device: torch.device) -> Recorder | None:
        return cuda_graph(device) if self.cuda_graph and device.type == "cuda" else None


class Held(NamedTuple):
    """What ticks change."""

    slots: Slots
    ahead: Tensor  # (2,) int64: outputs that were guessed since the last look, and guesses that held


class View(NamedTuple):
    """What the host sees of the slots: one copy from the device."""

    ended: list[int]  # rows that have finished since the last look
    order: list[int]  # the live rows, those that have drawn the fewest queries first
    spent: int  # queries that all rows have drawn
    ahead: tuple[int, int]  # outputs that were guessed since the last look, and guesses that held


def run(
    victim: Victim, attack: QueryAttack[Any], threat: Threat, feed: Feed, slots: int, pace: Pace | None = None
) -> Iterator[Look]:
    """Attacks every sample of `feed`, `slots` at a time, and yields every look, with the samples that have finished.

    Of independent rows (groups: `bench.run.groups`): a free slot takes the next sample, and once the queue is empty the rows that
    are left fill their calls with queries ahead. Raises BenchError where the attack queried an image outside [0, 1].
    """
    first = feed.next(slots)
    if first is None:
        return
    assert victim.defense.group is None, "groups: bench.run.groups"
    game, pace = Game(victim, attack, threat), pace or Pace()
    device, every = first.y.device, pace.ticks(first.y.device)
    # a defence that remembers would remember guesses, too
    may_run_ahead = pace.run_ahead and isinstance(attack, Foresight) and not victim.defense.traits.stateful
    held, depth, waiting = load(attack, first, victim.seed), Depth(isinstance(attack, Branching)), True
    ticker, none = Ticker(victim, pace.recorder(device)), torch.zeros(2, dtype=torch.int64, device=device)
    view = _look(victim, held, none)
    while view.order:
        size = len(held.live)
        plan = (Node(-1, False, size),)
        if may_run_ahead and not waiting:
            plan = depth.plan(size, -(-size // victim.rows) * victim.rows)
        held, tested = ticker.run(_step(game, plan), Held(held, none), plan, every)
        before, view = view, _look(victim, held, tested)
        depth.noted(*view.ahead)
        ended = view.ended
        finished = retire(held, _index(ended, device), threat.queries) if ended else None
        yield Look(view.spent - before.spent, finished)
        if not ended:
            continue
        held = held._replace(taken=held.live.clone())
        order = view.order
        if waiting and (fresh := feed.next(len(ended))) is not None:
            places = ended[: len(fresh.y)]
            held, order = rows.put(held, _index(places, device), load(attack, fresh, victim.seed)), places + order
        waiting = waiting and len(order) == size
        if not waiting and _sparse(len(order), size, victim.rows):
            held = rows.take(held, _index(order, device))
        view = _look(victim, held, none)


def _step(game: Game, plan: Sequence[Node]) -> Callable[[Held], Held]:
    """One tick, which asks ahead where the plan says so."""

    def step(held: Held) -> Held:
        if len(plan) == 1:
            return held._replace(slots=tick(game, held.slots))
        slots, tested = ahead(game, held.slots, plan)
        return Held(slots, held.ahead + tested)

    return step


def _look(victim: Victim, held: Slots, ahead: Tensor) -> View:
    """Raises BenchError where an image outside [0, 1] was queried."""
    live, taken, spent, tested, right = glance(victim, held, ahead)
    size = len(live)
    ended = [i for i in range(size) if taken[i] and not live[i]]
    order = sorted((i for i in range(size) if live[i]), key=lambda i: spent[i])
    return View(ended, order, sum(spent), (tested, right))


def glance(victim: Victim, held: Slots, more: Tensor | None = None) -> Any:
    """The lists `live`, `taken` and `spent` of the slots, then the numbers in `more`: in one copy from the device. Raises
    BenchError where an image outside [0, 1] was queried."""
    columns = [held.live.long(), held.taken.long(), held.spent, *([] if more is None else [more])]
    *seen, outside = torch.cat([*columns, victim.outside.sum()[None]]).tolist()
    if outside:
        victim.check_range()
    size = len(held.live)
    return *(seen[i * size : (i + 1) * size] for i in range(3)), *seen[3 * size :]


def _index(places: list[int], device: torch.device) -> Tensor:
    return torch.tensor(places, dtype=torch.int64, device=device)


def _sparse(alive: int, size: int, call: int) -> bool:
    """Is it worth copying the live rows together? Where that saves a call, or lets many more ask ahead."""
    return -(-alive // call) < -(-size // call) or 16 * (size - alive) >= size


def within_memory(
    victim: Victim,
    attack: QueryAttack[Any],
    threat: Threat,
    blocks: Callable[[set[int]], Iterator[Todo]],
    slots: int,
    pace: Pace | None = None,
) -> Iterator[Look]:
    """`run` on independent rows; when the device runs out of memory, with half the slots. The rows of a network call never
    change, so neither do the records. `blocks` gives the samples that are not in the set.
    """
    done: set[int] = set()
    while True:
        try:
            for look in run(victim, attack, threat, Feed(blocks(done)), slots, pace):
                if look.finished is not None:
                    done.update(look.finished.sample.tolist())
                yield look
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
