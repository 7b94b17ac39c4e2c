"""Query attacks on a cell's samples: through the slots, or group by group; finished rows become records."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from attacks.base import QueryAttack
from bench.core import rows, success
from bench.core.errors import BenchError
from bench.core.threat import Threat
from bench.run import slots
from bench.run.context import Clean, Run, mates, not_attacked, rows_in_flight, to_attack
from bench.run.progress import Line
from bench.run.slots import Finished, Todo


def independent(work: Run, attack: QueryAttack[Any], wanted: list[list[int]], clean: Clean) -> None:
    """Rows that do not depend on each other: one stream of samples through the slots."""
    threat, victim = work.spec.threat, work.victim
    done = work.cell.positions()
    todo = [p for block in wanted for p in block if p not in done]
    right = [p for p in todo if clean.right[p]]
    place = dict(zip(work.samples.numbers(right).tolist(), right, strict=True)) if right else {}
    work.line.begin(len(todo))
    wrong = [p for p in todo if not clean.right[p]]
    work.write(not_attacked(work, wrong))
    work.line.add(len(wrong), broken=len(wrong))

    def blocks(skip: set[int]) -> Iterator[Todo]:
        rest = [p for number, p in place.items() if number not in skip]
        for start in range(0, len(rest), victim.rows):
            some = rest[start : start + victim.rows]
            yield to_attack(work, some, clean, [True] * len(some))

    held: list[Finished] = []
    written = time.monotonic()
    try:
        for asked, finished in slots.within_memory(victim, attack, threat, blocks, rows_in_flight(work, len(right))):
            _tell(work.line, asked, finished)
            held += [finished] if finished is not None else []
            if work.due(sum(len(f.y) for f in held), written):
                if held:
                    work.write(_records(work, threat, rows.cat(held), place, _holds_each))
                held, written = [], time.monotonic()
    finally:  # also where someone pressed Ctrl-C
        if held:
            work.write(_records(work, threat, rows.cat(held), place, _holds_each))


def grouped(work: Run, attack: QueryAttack[Any], wanted: list[list[int]], clean: Clean) -> None:
    """Rows that share a batch: one group after the other, each written when it ends and redone whole after a kill."""
    threat, victim = work.spec.threat, work.victim
    group, done = victim.defense.group, work.cell.positions()
    assert group is not None
    blocks = [block for block in wanted if not done.issuperset(block)]
    work.line.begin(sum(map(len, blocks)))
    for block in blocks:
        positions = mates(work, block)
        live = [i < len(block) and clean.right[p] for i, p in enumerate(positions)]
        todo = to_attack(work, positions, clean, live)
        if group.neighbours == "leave":
            todo = rows.take(todo, todo.live)
        wrong = [p for p in block if not clean.right[p]]
        records = not_attacked(work, wrong)
        work.line.add(len(wrong), broken=len(wrong))
        finished: list[Finished] = []
        victim.defense.reset()
        try:
            for asked, some in slots.run(victim, attack, threat, slots.Feed(iter([todo])), max(len(todo.y), 1)):
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
    return success.holds(work.victim, found.found, found.y, found.target, found.sample, work.spec.re_evaluations)


def _holds_group(work: Run, found: Finished, todo: Todo) -> Tensor:
    """The found images are asked again side by side, their mates standing in clean."""
    place = {number: i for i, number in enumerate(todo.sample.tolist())}
    index = torch.tensor([place[number] for number in found.sample.tolist()], device=todo.y.device)
    x, live = todo.x.clone(), torch.zeros_like(todo.live)
    x[index], live[index] = found.found, True
    work.victim.defense.reset()
    return success.holds(work.victim, x, todo.y, todo.target, todo.sample, work.spec.re_evaluations, live)[index]


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
