"""A cell at work: what its steps share, and what they know of its samples before any attack."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.config.runtime import RuntimeSpec
from bench.config.specs import CellSpec
from bench.core import success
from bench.core.errors import BenchError
from bench.core.victim import Victim
from bench.data.samples import Samples
from bench.run.loop import Pace
from bench.run.progress import Line
from bench.run.slots import Todo
from bench.store.records import Cell

PART_ROWS, PART_SECONDS = 256, 30.0  # a kill loses the unfinished slots and at most this much of what was finished
FIT = 2**20  # bytes of one image a row, for all rows in flight: what a CPU core's cache still holds


@dataclass
class Run:
    """A cell at work: what its steps share."""

    spec: CellSpec
    runtime: RuntimeSpec
    cell: Cell
    samples: Samples
    victim: Victim
    made: dict[str, Any]  # goes into every part
    line: Line
    counted: dict[str, int] = field(default_factory=dict)  # the ledger at the last part

    def write(self, records: list[dict[str, Any]]) -> None:
        """One part, with the ledger's growth since the last."""
        now = self.victim.ledger.totals()
        growth = {name: count - self.counted.get(name, 0) for name, count in now.items()}
        self.cell.append(records, self.made | {"ledger": growth})
        self.counted = now

    def due(self, held: int, since: float = math.inf) -> bool:
        """Is it time to write `held` records, the last part having been written at `since` (`time.monotonic`)?"""
        return held >= PART_ROWS or time.monotonic() - since > PART_SECONDS


def mates(work: Run, block: list[int]) -> list[int]:
    """A group's positions; where the data set ends within it, the first of the order are placeholders."""
    group = work.victim.defense.group
    missing = (group.size if group else 1) - len(block)
    return block + list(range(min(missing, len(work.samples))))


@dataclass(frozen=True)
class Clean:
    """What the clean pass says of each position."""

    right: dict[int, bool]
    logits: dict[int, list[float]]
    device: torch.device

    def at(self, positions: list[int]) -> Tensor:
        """(B,K) logits."""
        return torch.tensor([self.logits[p] for p in positions], device=self.device)


def first_answers(clean: Cell, wanted: list[list[int]], device: torch.device) -> Clean:
    frame = clean.frame().set_index("position")
    kept = frame.loc[[position for block in wanted for position in block]]
    right = {int(p): bool(v) for p, v in kept["clean"].items()}  # pyright: ignore[reportArgumentType]
    return Clean(right, {int(p): list(v) for p, v in kept["logits"].items()}, device)  # pyright: ignore[reportArgumentType]


def to_attack(work: Run, positions: list[int], clean: Clean, live: list[bool]) -> Todo:
    y, number = work.samples.labels(positions), work.samples.numbers(positions)
    known = [p if p in clean.logits else positions[0] for p in positions]  # the end's stand-ins have no goal
    goal = success.targets(work.spec.threat.goal, y, clean.at(known), number, work.victim.seed)
    return Todo(number, work.samples.images(positions), y, goal, torch.tensor(live, device=y.device))


def not_attacked(work: Run, positions: list[int], clean: Clean) -> list[dict[str, Any]]:
    """Misclassified when clean: recorded with no query."""
    number, y = work.samples.numbers(positions).tolist(), work.samples.labels(positions).tolist()
    return [
        {
            "sample": s, "position": p, "label": k, "clean": False, "fooled": False, "queries": 0,
            "undefined": not all(map(math.isfinite, clean.logits[p])),
        }
        for s, p, k in zip(number, positions, y, strict=True)
    ]  # fmt: skip


def calls_in_flight(samples: Samples, rows: int) -> int:
    """Network calls that the slots fill. On a CPU an attack's state, a few images a row, should stay in the cache (FIT)."""
    if samples.device.type != "cpu":
        return 2
    return max(1, min(4, FIT // (4 * rows * samples.images([0]).numel())))


def rows_in_flight(work: Run, samples: int) -> int:
    """Rows in flight: a run-time knob that no record depends on, a multiple of numerics.rows."""
    victim, chosen = work.victim, work.runtime.slots
    if chosen is None:
        calls = calls_in_flight(work.samples, victim.rows)
        return min(calls, -(-max(samples, 1) // victim.rows)) * victim.rows
    if chosen % victim.rows:
        raise BenchError(f"slots={chosen} must be a multiple of numerics.rows={victim.rows}, or null")
    return chosen


LEAVING = 10  # calls: where batches shrink, the last call is half empty on average, a twentieth of all


def room_for_groups(work: Run) -> int:
    """Rows of all groups in flight; 0 for one group at a time. A run-time knob that no record depends on."""
    victim, group = work.victim, work.victim.defense.group
    assert group is not None
    if not victim.shares_calls:
        return 0
    if work.runtime.slots is not None:
        return work.runtime.slots
    calls = LEAVING if group.neighbours == "leave" else calls_in_flight(work.samples, victim.rows)
    return max(calls * victim.rows, group.size)


def side_by_side(work: Run, blocks: list[list[int]]) -> Iterator[list[int]]:
    """The positions of whole groups that fill their calls best; the last may be filled up by `mates`, which comes alone where
    it is."""
    victim, group = work.victim, work.victim.defense.group
    assert group is not None
    room = min(room_for_groups(work), calls_in_flight(work.samples, victim.rows) * max(victim.rows, group.size))
    most = max(1, room // group.size)
    together = max(range(1, most + 1), key=lambda k: (k * group.size / -(-k * group.size // victim.rows), k))
    whole = [block for block in blocks if len(block) == group.size]
    for start in range(0, len(whole), together):
        yield [position for block in whole[start : start + together] for position in block]
    yield from (block for block in blocks if len(block) < group.size)


def pace(work: Run) -> Pace:
    """Run-time knobs of the loop, on which no record depends."""
    return Pace(work.runtime.look_every, work.runtime.run_ahead, work.runtime.cuda_graph)
