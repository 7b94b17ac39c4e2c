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
from bench.run import loop
from bench.run.context import Clean, Run, mates, not_attacked, pace, rows_in_flight, to_attack
from bench.run.loop import Look
from bench.run.progress import Line
from bench.run.slots import Finished, Todo
from bench.store import images


def independent(work: Run, attack: QueryAttack[Any], wanted: list[list[int]], clean: Clean) -> None:
    """Rows that do not depend on each other: one stream of samples through the slots."""
    threat, victim = work.spec.threat, work.victim
    done = work.cell.positions()
    todo = [p for block in wanted for p in block if p not in done]
    right = [p for p in todo if clean.right[p]]
    place = dict(zip(work.samples.numbers(right).tolist(), right, strict=True)) if right else {}
    work.line.begin(len(todo))
    wrong = [p for p in todo if not clean.right[p]]
    work.write(not_attacked(work, wrong, clean))
    work.line.add(len(wrong), broken=len(wrong))

    def blocks(skip: set[int]) -> Iterator[Todo]:
        rest = [p for number, p in place.items() if number not in skip]
        for start in range(0, len(rest), victim.rows):
            some = rest[start : start + victim.rows]
            yield to_attack(work, some, clean, [True] * len(some))

    held: list[Finished] = []
    written = time.monotonic()
    try:
        for look in loop.within_memory(victim, attack, threat, blocks, rows_in_flight(work, len(right)), pace(work)):
            _show(work.line, look)
            held += [look.finished] if look.finished is not None else []
            if work.due(sum(len(f.y) for f in held), written):
                if held:
                    work.write(_records(work, threat, rows.cat(held), place, _re_evaluated_alone))
                held, written = [], time.monotonic()
    finally:  # also where someone pressed Ctrl-C
        if held:
            work.write(_records(work, threat, rows.cat(held), place, _re_evaluated_alone))


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
        records = not_attacked(work, wrong, clean)
        work.line.add(len(wrong), broken=len(wrong))
        finished: list[Finished] = []
        victim.defense.reset()
        try:
            feed = loop.Feed(iter([todo]))
            for look in loop.run(victim, attack, threat, feed, max(len(todo.y), 1), pace(work)):
                _show(work.line, look)
                finished += [look.finished] if look.finished is not None else []
        except torch.OutOfMemoryError:
            raise BenchError(
                f"out of device memory with a group of {group.size}; set a smaller defense.group.size"
            ) from None
        if finished:
            place = dict(zip(work.samples.numbers(block).tolist(), block, strict=True))
            records += _records(
                work,
                threat,
                rows.cat(finished),
                place,
                lambda work, f, todo=todo: _re_evaluated_together(work, f, todo),
            )
        work.write(records)


def _show(line: Line, look: Look) -> None:
    line.asked(look.queried)
    if look.finished is not None:
        line.add(len(look.finished.y), broken=int(look.finished.fooled.sum()))


def _re_evaluated_alone(work: Run, f: Finished) -> Tensor:
    return success.re_evaluation_success(work.victim, f.found, f.y, f.target, f.sample, work.spec.re_evaluations)


def _re_evaluated_together(work: Run, f: Finished, todo: Todo) -> Tensor:
    """The found images are re-evaluated side by side, their batch neighbours clean."""
    place = {number: i for i, number in enumerate(todo.sample.tolist())}
    index = torch.tensor([place[number] for number in f.sample.tolist()], device=todo.y.device)
    x, live = todo.x.clone(), torch.zeros_like(todo.live)
    x[index], live[index] = f.found, True
    work.victim.defense.reset()
    share = success.re_evaluation_success(
        work.victim, x, todo.y, todo.target, todo.sample, work.spec.re_evaluations, live
    )
    return share[index]


def _records(
    work: Run, threat: Threat, f: Finished, place: dict[int, int], re_evaluated: Callable[[Run, Finished], Tensor]
) -> list[dict[str, Any]]:
    """Finished rows as the store's rows, and their images where those are kept; a stochastic victim is re-evaluated on every
    found image."""
    over = f.queries > threat.queries
    if over.any():
        raise BenchError(
            f"{int(over.sum())} samples drew more than threat.queries={threat.queries} queries: a bug in the attack"
        )
    if work.runtime.keep_images:  # before the records: a sample with a record has its image
        images.keep(work.runtime.artifacts, work.cell.key, f.sample, f.found, f.x)
    success_share: list[float | None] = [None] * len(f.y)
    hit = f.fooled.nonzero()[:, 0]
    if len(hit) and work.victim.defense.traits.stochastic:
        for i, value in zip(hit.tolist(), re_evaluated(work, rows.take(f, hit)).tolist(), strict=True):
            success_share[i] = value
    delta = (f.found.double() - f.x.double()).flatten(1)
    columns = {
        "sample": f.sample, "label": f.y, "target": f.target, "fooled": f.fooled, "undefined": f.undefined,
        "queries": f.queries, "margin": f.margin, "first_any": f.first_any, "seconds": f.seconds, "trace": f.trace,
        "linf": delta.abs().amax(1), "l2": delta.norm(dim=1),
    }  # fmt: skip
    plain = {name: column.tolist() for name, column in columns.items()}
    records = []
    for i, share in enumerate(success_share):
        row = {name: column[i] for name, column in plain.items()}
        row |= {"position": place[row["sample"]], "clean": True, "re_evaluation_success": share}
        row |= {name: None for name in ("target", "first_any") if row[name] < 0}
        row |= {name: None for name in ("linf", "l2") if not row["fooled"]}
        records.append(row)
    return records
