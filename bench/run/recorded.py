"""Ticks as one recorded graph: on CUDA, where a tick of small kernels costs more to launch than to compute, hundreds of launches
become one. What a record holds is not changed by it.

A tick is a pure function with static shapes (`bench.run.tick`), so it can be recorded once it has run WARM times at one shape,
and replayed in place of the function as long as the shape stays. A recording is believed only if its first replays give bit for
bit the state and the counters that the function gives; else, and where it can't be made, ticks run as functions, and that is said
once. While it is in use it is compared again after 8, 32, 128, … ticks: should it differ then, the run ends with an error.
"""

import time
import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.victim import Victim

T = TypeVar("T", bound=tuple[Any, ...])

WARM = 16  # ticks at one shape before it is recorded: recording costs the time of some, and shapes of a few ticks aren't worth it
FIRST = 3  # replays that are compared before a recording is used
AGAIN, RARER = 8, 4  # ticks after which one is compared again, and the factor between two such times
HOST = ("filler", "inner")  # what the ledger counts on the host: the same at every tick of one shape

Replay = Callable[[], object]
Recorder = Callable[
    [Callable[[], None]], Replay
]  # of what a function queues on the device, which it doesn't run meanwhile


class NotRecorded(Exception):
    """Why a tick can't be recorded."""


def cuda_graph(device: torch.device) -> Recorder:
    """A CUDA graph on `device`."""

    def record(step: Callable[[], None]) -> Replay:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
            step()
        return graph.replay

    return record


class Ticker:
    """Runs ticks: as the function that they are, or by a recording of it. recorder: None for the first alone."""

    def __init__(self, victim: Victim, recorder: Recorder | None) -> None:
        self.victim, self.recorder = victim, None if victim.defense.traits.stateful else recorder
        self.shape: Hashable = None
        self.seen, self.recorded = 0, 0  # ticks at this shape; recordings in all
        self.since, self.cost = 0.0, 0.0  # when this shape began; seconds that the last recording took
        self.replayed, self.due = 0, AGAIN  # ticks of this recording; after how many it is compared again
        self.graph: _Graph | None = None

    def run(self, step: Callable[[T], T], state: T, shape: Hashable, times: int) -> T:
        """`times` ticks from `state` on, which is written into. shape: whatever but the values in `state` decides what `step`
        does, as the number of rows."""
        if shape != self.shape:
            self.shape, self.seen, self.graph, self.since = shape, 0, None, time.monotonic()
        while times and self.graph is None:
            state, times, self.seen = step(state), times - 1, self.seen + 1
            if self.recorder is not None and self._worth_it():
                self.graph = self._record(self.recorder, step, state)
        if not times or self.graph is None:
            return state
        if self.replayed >= self.due:
            self._compare_again(self.graph, step, state)
        self.replayed += times
        return self.graph.run(state, times)

    def _worth_it(self) -> bool:
        """A shape that has lasted as long as a recording takes may last as long again: at worst twice the best choice's time."""
        return self.seen >= WARM and time.monotonic() - self.since >= self.cost

    def _record(self, recorder: Recorder, step: Callable[[T], T], state: T) -> "_Graph | None":
        """Neither `state` nor a counter is changed by it."""
        meters, began = _Meters(self.victim), time.monotonic()
        before = meters.read()
        try:
            graph = _Graph(recorder, step, state, meters)
            if not graph.holds(step, state, FIRST):
                raise NotRecorded("a replay's answers are others than the function's")
        except (NotRecorded, RuntimeError) as error:  # RuntimeError: CUDA's, out of memory included
            self.recorder = None
            warnings.warn(f"ticks are not recorded: {str(error).splitlines()[0]}; going on without", stacklevel=3)
            return None
        finally:
            meters.write(before)
        self.recorded, self.cost = self.recorded + 1, time.monotonic() - began
        self.replayed, self.due = 0, AGAIN
        return graph

    def _compare_again(self, graph: "_Graph", step: Callable[[T], T], state: T) -> None:
        """Raises BenchError: what was written since the last time may be wrong."""
        self.due *= RARER
        if not graph.holds(step, state, 1):
            raise BenchError(
                f"cuda_graph=true: {self.replayed} ticks after it was recorded, a replay's answers are others than the tick's "
                "own; delete this cell's records and set cuda_graph=false"
            )


class _Graph:
    """A recording, and the tensors that it reads and writes."""

    def __init__(self, recorder: Recorder, step: Callable[[T], T], state: T, meters: "_Meters") -> None:
        self.step, self.meters, self.state = step, meters, _copy(state)
        before = meters.host()
        self.replay = recorder(self._tick)
        self.a_tick = [after - was for after, was in zip(meters.host(), before, strict=True)]

    def run(self, state: Any, times: int) -> Any:
        for ours, given in zip(leaves(self.state), leaves(state), strict=True):
            if given is not ours:
                ours.copy_(given)
        for _ in range(times):
            self.replay()
        self.meters.add_host([times * each for each in self.a_tick])
        return self.state

    def holds(self, step: Callable[[T], T], state: T, times: int) -> bool:
        """Do so many replays leave what as many ticks leave, in the state and in the counters? Changes neither; waits for the
        device."""
        before, given = self.meters.read(), _copy(state)  # it may be our own, which a replay writes into

        def ticks(state: T) -> T:
            for _ in range(times):
                state = step(state)
            return state

        left = []
        for run in (ticks, lambda state: self.run(state, times)):
            self.meters.write(before)
            left.append([*leaves(_copy(run(_copy(given)))), *self.meters.read()])
        self.meters.write(before)
        for ours, was in zip(leaves(state), leaves(given), strict=True):
            ours.copy_(was)
        return _equal(*left)

    def _tick(self) -> None:
        """One tick from our tensors into our tensors."""
        ours, new = list(leaves(self.state)), list(leaves(self.step(self.state)))
        if len(ours) != len(new) or any(_kind(a) != _kind(b) for a, b in zip(ours, new, strict=True)):
            raise NotRecorded("a tick's state has another shape than the one before")
        kept = {each.untyped_storage().data_ptr() for each in ours}
        pairs = [(a, b) for a, b in zip(ours, new, strict=True) if a is not b]
        # a field that takes over another's tensor: copied before that is written into
        free = [b.clone() if b.untyped_storage().data_ptr() in kept else b for _, b in pairs]
        for (a, _), b in zip(pairs, free, strict=True):
            a.copy_(b)


class _Meters:
    """All that a tick counts beside its state."""

    def __init__(self, victim: Victim) -> None:
        self.ledger = victim.ledger
        self.tensors = [*self.ledger.count.values(), self.ledger.idle, self.ledger.discarded, victim.outside]

    def read(self) -> list[Any]:
        return [each.clone() for each in self.tensors] + self.host()

    def write(self, counted: list[Any]) -> None:
        for ours, was in zip(self.tensors, counted, strict=False):
            ours.copy_(was)
        self.add_host([was - now for was, now in zip(counted[len(self.tensors) :], self.host(), strict=True)])

    def host(self) -> list[int]:
        return [getattr(self.ledger, name) for name in HOST]

    def add_host(self, more: list[int]) -> None:
        for name, rows in zip(HOST, more, strict=True):
            setattr(self.ledger, name, getattr(self.ledger, name) + rows)


def leaves(state: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples, in order."""
    for field in state:
        if isinstance(field, tuple):
            yield from leaves(field)
        else:
            yield field


def _copy(state: T) -> T:
    """With tensors of its own: fields that share one get one each."""
    fields: list[Any] = [_copy(field) if isinstance(field, tuple) else field.clone() for field in state]
    return type(state)(*fields) if hasattr(state, "_fields") else type(state)(fields)


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    """Strides, too: on another memory format a network rounds otherwise."""
    return tensor.shape, tensor.dtype, tensor.device, tensor.stride()


def _equal(ours: list[Any], theirs: list[Any]) -> bool:
    tensors = [(a, b) for a, b in zip(ours, theirs, strict=True) if isinstance(a, Tensor)]
    same = torch.stack([((a == b) | ((a != a) & (b != b))).all() for a, b in tensors])  # NaN where there is none yet
    numbers = [(a, b) for a, b in zip(ours, theirs, strict=True) if not isinstance(a, Tensor)]
    return bool(same.all()) and all(a == b for a, b in numbers)
