"""One cell: data -> model -> defence -> victim -> attack -> records. The one place that knows them all."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attacks.base import QueryAttack
from bench import build, cost, judge, key, loop, rows
from bench.errors import BenchError
from bench.loop import Finished, Todo
from bench.models.split import Split
from bench.progress import Line
from bench.provenance import device_name, provenance
from bench.rng import Draw, Stream
from bench.store import Cell
from bench.threat import Threat, read
from bench.victim import Victim, check_rows

PART_ROWS, PART_SECONDS = 256, 30.0  # a kill loses the unfinished slots and at most this much of what was finished


@dataclass
class Run:
    """A cell at work: what its steps share."""

    config: Mapping[str, Any]
    cell: Cell
    samples: build.Samples
    victim: Victim
    made: dict[str, Any]  # goes into every part
    line: Line
    told: dict[str, int] = field(default_factory=dict)  # the ledger at the last part

    def write(self, records: list[dict[str, Any]]) -> None:
        """One part, with the ledger's growth since the last."""
        now = self.victim.ledger.totals()
        growth = {name: count - self.told.get(name, 0) for name, count in now.items()}
        self.cell.append(records, self.made | {"ledger": growth})
        self.told = now


def run(config: Mapping[str, Any], line: Line | None = None, command: str = "bench.cell.run") -> str:
    """Runs what is missing of one cell, its clean pass first, and returns the cell's key.

    config: a composed, resolved conf/bench.yaml. Raises BenchError; finished samples are kept whatever happens.
    """
    whole = key.identity(config)
    store, line = Path(config["store"]), line or Line("cell")
    cell, clean = Cell(store, key.of(whole)), Cell(store, key.of(key.clean(whole)))
    n = key.samples(config)["n"]
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    device = build.device_of(config["device"])
    test = build.samples(config, device)
    if n is not None and n > len(test):
        raise BenchError(f"samples.n={n}, but the data set has {len(test)}; set samples.n={len(test)} or null for all")
    network, weights = build.model(config, whole, device, test)
    victim = build.victim(config, network, device, int(test.source.ids.max()))
    made = {
        "data": test.source.digest(), "weights": weights, "device": device_name(device),
        "threads": torch.get_num_threads(), "replaces": [], **provenance(),
    }  # fmt: skip
    group = victim.defense.group
    if group is None:
        first = list(range(min(victim.rows, len(test))))
        check_rows(victim, test.images(first), test.numbers(first))
    wanted = _wanted(n or len(test), len(test), group.size if group else 1, config["shard"])
    attack = (
        None if whole["attack"] == key.NO_ATTACK else build.attack(config, network)
    )  # refuses bad settings before any work
    for each, what in ((clean, key.clean(whole)), (cell, whole)):
        about = {
            "config": what,
            "key": each.key,
            "samples_in_all": len(test),
            "anytime": bool(attack and attack.anytime),
        }
        if each.key == clean.key and not clean.description():
            about["cost"] = _cost(config, network, test, group.size if group else victim.rows)
        each.describe(about | {"command": command} | provenance())
    work = Run(config, clean, test, victim, made, line)
    _clean(work, wanted)
    if attack is not None:
        work = Run(config, cell, test, victim, made, line, told=victim.ledger.totals())
        (_grouped if group else _independent)(work, attack, wanted, _first_answers(clean, wanted, device))
    for each in (clean, cell):
        if each.complete(n):
            each.compact()
    return cell.key


def _cost(config: Mapping[str, Any], network: Split, test: build.Samples, rows: int) -> dict[str, Any]:
    """Of a victim of its own, so that no ledger counts these rows."""
    victim = build.victim(config, network, test.device, 0)
    return cost.measure(victim, test.images([i % len(test) for i in range(rows)]))


def _wanted(n: int, total: int, size: int, shard: str) -> list[list[int]]:
    """Positions of the cell's order in blocks that belong together: whole groups, so that a sample's mates never depend on n."""
    part, of = _shard(shard)
    blocks = [list(range(start, min(start + size, total))) for start in range(0, n, size)]
    return blocks[part - 1 :: of]


def _shard(text: str) -> tuple[int, int]:
    part, _, of = str(text).partition("/")
    if not (part.isdigit() and of.isdigit() and 1 <= int(part) <= int(of)):
        raise BenchError(f"shard={text} must be part/parts with 1 <= part <= parts, such as shard=3/8")
    return int(part), int(of)


def _mates(work: Run, block: list[int]) -> list[int]:
    """A group's positions; where the data set ends within it, the first of the order stand in."""
    group = work.victim.defense.group
    missing = (group.size if group else 1) - len(block)
    return block + list(range(min(missing, len(work.samples))))


# --- the clean pass --------------------------------------------------------------------------------------------------


def _clean(work: Run, wanted: list[list[int]]) -> None:
    """One answer for every sample, its logits stored; it serves all attacks on this victim."""
    done, samples, victim = work.cell.positions(), work.samples, work.victim
    blocks = [block for block in wanted if not done.issuperset(block)]
    if victim.defense.group is None:
        flat = [position for block in blocks for position in block]
        blocks = [flat[start : start + victim.rows] for start in range(0, len(flat), victim.rows)]
    records: list[dict[str, Any]] = []
    for block in blocks:
        positions = _mates(work, block)
        number, y = samples.numbers(positions), samples.labels(positions)
        live = torch.arange(len(positions), device=y.device) < len(block)
        victim.defense.reset()
        logits = victim.answer(
            samples.images(positions), Draw(victim.seed, number, torch.zeros_like(number), Stream.CLEAN), live
        )
        right = logits.argmax(1) == y
        for i, position in enumerate(block):
            records.append(
                {
                    "sample": int(number[i]), "position": position, "label": int(y[i]), "clean": bool(right[i]),
                    "fooled": False, "logits": logits[i].tolist(),
                }
            )  # fmt: skip
        if len(records) >= PART_ROWS:
            work.write(records)
            records = []
    work.write(records)


@dataclass(frozen=True)
class Clean:
    """What the clean pass says of each position."""

    right: dict[int, bool]
    logits: dict[int, list[float]]
    device: torch.device

    def at(self, positions: list[int]) -> Tensor:
        """(B,K) logits."""
        return torch.tensor([self.logits[p] for p in positions], device=self.device)


def _first_answers(clean: Cell, wanted: list[list[int]], device: torch.device) -> Clean:
    frame = clean.frame().set_index("position")
    kept = frame.loc[[position for block in wanted for position in block]]
    right = {int(p): bool(v) for p, v in kept["clean"].items()}  # pyright: ignore[reportArgumentType]
    return Clean(right, {int(p): list(v) for p, v in kept["logits"].items()}, device)  # pyright: ignore[reportArgumentType]


# --- attacks ---------------------------------------------------------------------------------------------------------


def _todo(work: Run, positions: list[int], clean: Clean, live: list[bool]) -> Todo:
    y, number = work.samples.labels(positions), work.samples.numbers(positions)
    known = [p if p in clean.logits else positions[0] for p in positions]  # the end's stand-ins have no goal
    goal = judge.targets(work.config["threat"]["goal"], y, clean.at(known), number, work.victim.seed)
    return Todo(number, work.samples.images(positions), y, goal, torch.tensor(live, device=y.device))


def _not_attacked(work: Run, positions: list[int]) -> list[dict[str, Any]]:
    """Wrong when clean: recorded with no query."""
    number, y = work.samples.numbers(positions).tolist(), work.samples.labels(positions).tolist()
    return [
        {"sample": s, "position": p, "label": k, "clean": False, "fooled": False, "queries": 0}
        for s, p, k in zip(number, positions, y, strict=True)
    ]


def _independent(work: Run, attack: QueryAttack[Any], wanted: list[list[int]], clean: Clean) -> None:
    """Rows that do not depend on each other: one stream of samples through the slots."""
    threat, victim = read(work.config["threat"]), work.victim
    done = work.cell.positions()
    todo = [p for block in wanted for p in block if p not in done]
    right = [p for p in todo if clean.right[p]]
    place = dict(zip(work.samples.numbers(right).tolist(), right, strict=True)) if right else {}
    work.line.begin(len(todo))
    wrong = [p for p in todo if not clean.right[p]]
    work.write(_not_attacked(work, wrong))
    work.line.add(len(wrong), broken=len(wrong))

    def blocks(skip: set[int]) -> Iterator[Todo]:
        rest = [p for number, p in place.items() if number not in skip]
        for start in range(0, len(rest), victim.rows):
            some = rest[start : start + victim.rows]
            yield _todo(work, some, clean, [True] * len(some))

    held: list[Finished] = []
    written = time.monotonic()
    for asked, finished in loop.within_memory(victim, attack, threat, blocks, _slots(work, len(right))):
        _tell(work.line, asked, finished)
        held += [finished] if finished is not None else []
        if sum(len(f.y) for f in held) >= PART_ROWS or time.monotonic() - written > PART_SECONDS:
            if held:
                work.write(_records(work, threat, rows.cat(held), place, _holds_each))
            held, written = [], time.monotonic()
    if held:
        work.write(_records(work, threat, rows.cat(held), place, _holds_each))


def _slots(work: Run, samples: int) -> int:
    """Rows in flight: a run-time knob that no record depends on, a multiple of numerics.rows."""
    victim, chosen = work.victim, work.config["slots"]
    if chosen is None:
        calls = 4 if work.samples.device.type == "cpu" else 2
        return min(calls, -(-max(samples, 1) // victim.rows)) * victim.rows
    if not isinstance(chosen, int) or chosen < 1 or chosen % victim.rows:
        raise BenchError(f"slots={chosen} must be a multiple of numerics.rows={victim.rows}, or null")
    return chosen


def _grouped(work: Run, attack: QueryAttack[Any], wanted: list[list[int]], clean: Clean) -> None:
    """Rows that share a batch: one group after the other, each written when it ends and redone whole after a kill."""
    threat, victim = read(work.config["threat"]), work.victim
    group, done = victim.defense.group, work.cell.positions()
    assert group is not None
    blocks = [block for block in wanted if not done.issuperset(block)]
    work.line.begin(sum(map(len, blocks)))
    for block in blocks:
        positions = _mates(work, block)
        live = [i < len(block) and clean.right[p] for i, p in enumerate(positions)]
        todo = _todo(work, positions, clean, live)
        if group.neighbours == "leave":
            todo = rows.take(todo, todo.live)
        wrong = [p for p in block if not clean.right[p]]
        records = _not_attacked(work, wrong)
        work.line.add(len(wrong), broken=len(wrong))
        finished: list[Finished] = []
        victim.defense.reset()
        try:
            for asked, some in loop.run(victim, attack, threat, loop.Feed(iter([todo])), max(len(todo.y), 1)):
                _tell(work.line, asked, some)
                finished += [some] if some is not None else []
        except torch.OutOfMemoryError:
            raise BenchError(
                f"out of device memory with a group of {group.size}; set a smaller defense.group.size"
            ) from None
        if finished:
            place = dict(zip(work.samples.numbers(block).tolist(), block, strict=True))
            records += _records(
                work, threat, rows.cat(finished), place, lambda work, f, todo=todo: _holds_group(work, f, todo)
            )
        work.write(records)


def _tell(line: Line, asked: int, finished: Finished | None) -> None:
    line.asked(asked)
    if finished is not None:
        line.add(len(finished.y), broken=int(finished.fooled.sum()))


def _holds_each(work: Run, found: Finished) -> Tensor:
    return judge.holds(work.victim, found.found, found.y, found.target, found.sample, work.config["reask"])


def _holds_group(work: Run, found: Finished, todo: Todo) -> Tensor:
    """The found images are asked again side by side, their mates standing in clean."""
    place = {number: i for i, number in enumerate(todo.sample.tolist())}
    index = torch.tensor([place[number] for number in found.sample.tolist()], device=todo.y.device)
    x, live = todo.x.clone(), torch.zeros_like(todo.live)
    x[index], live[index] = found.found, True
    work.victim.defense.reset()
    return judge.holds(work.victim, x, todo.y, todo.target, todo.sample, work.config["reask"], live)[index]


def _records(
    work: Run, threat: Threat, f: Finished, place: dict[int, int], holds: Callable[[Run, Finished], Tensor]
) -> list[dict[str, Any]]:
    """Finished rows as the store's rows; a stochastic victim is asked again about every found image."""
    over = f.queries > threat.queries
    if over.any():
        raise BenchError(
            f"{int(over.sum())} samples drew more than threat.queries={threat.queries} answers: a bug in the attack"
        )
    hit = f.fooled.nonzero()[:, 0]
    share: list[float | None] = [None] * len(f.y)
    if len(hit) and work.victim.defense.traits.stochastic:
        for i, value in zip(hit.tolist(), holds(work, rows.take(f, hit)).tolist(), strict=True):
            share[i] = value
    gap = (f.found.double() - f.x.double()).flatten(1)
    linf, l2 = gap.abs().amax(1).tolist(), gap.norm(dim=1).tolist()
    columns = zip(*(column.tolist() for column in f[:9]), linf, l2, share, strict=True)
    return [
        {
            "sample": sample, "position": place[sample], "label": y, "clean": True, "fooled": fooled,
            "target": None if target < 0 else target, "queries": queries, "margin": low,
            "first_any": None if first < 0 else first, "seconds": seconds, "trace": trace,
            "linf": a if fooled else None, "l2": b if fooled else None, "holds": held,
        }
        for sample, y, target, fooled, queries, low, first, seconds, trace, a, b, held in columns
    ]  # fmt: skip
