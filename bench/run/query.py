"""Query attacks on a cell's samples: through the slots, or group by group; finished rows become records."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from attacks.base import QueryAttack
from bench.core import rows, success
from bench.core.errors import BenchError
from bench.core.threat import Threat
from bench.run import groups, loop
from bench.run.context import Clean, Run, mates, not_attacked, pace, room_for_groups, rows_in_flight, to_attack
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
                _write_alone(work, held, place)
                held, written = [], time.monotonic()
    finally:  # also where someone pressed Ctrl-C
        _write_alone(work, held, place)


def _write_alone(work: Run, held: list[Finished], place: dict[int, int]) -> None:
    if held:
        f = rows.cat(held)
        work.write(_records(work, work.spec.threat, f, place, _re_evaluated_alone(work, f)))


def grouped(work: Run, attack: QueryAttack[Any], wanted: list[list[int]], clean: Clean) -> None:
    """Rows that share a batch: group beside group, each written when it ends and redone whole after a kill."""
    threat, victim = work.spec.threat, work.victim
    group, done = victim.defense.group, work.cell.positions()
    assert group is not None
    blocks = [block for block in wanted if not done.issuperset(block)]
    work.line.begin(sum(map(len, blocks)))
    begun: dict[int, tuple[list[int], Todo]] = {}  # the groups in flight: images of those that ended are let go
    finished: dict[int, list[Finished]] = {}
    of: dict[int, int] = {}  # sample -> its group

    def todos() -> Iterator[Todo]:
        number = 0
        for block in blocks:
            positions = mates(work, block)
            live = [i < len(block) and clean.right[p] for i, p in enumerate(positions)]
            wrong = [p for p in block if not clean.right[p]]
            work.line.add(len(wrong), broken=len(wrong))
            if not any(live):
                work.write(not_attacked(work, wrong, clean))
                continue
            todo = to_attack(work, positions, clean, live)
            todo = rows.take(todo, todo.live) if group.neighbours == "leave" else todo
            of.update(dict.fromkeys(todo.sample[todo.live].tolist(), number))
            begun[number] = block, todo
            number += 1
            yield todo

    try:
        for look, over in groups.run(victim, attack, threat, todos(), room_for_groups(work), pace(work)):
            _show(work.line, look)
            if look.finished is not None:
                owners = [of[sample] for sample in look.finished.sample.tolist()]
                for each in sorted(set(owners)):
                    index = torch.tensor([i for i, g in enumerate(owners) if g == each], device=look.finished.y.device)
                    finished.setdefault(each, []).append(rows.take(look.finished, index))
            if over:
                ended = [(*begun.pop(each), rows.cat(finished.pop(each))) for each in over]
                _write_groups(work, ended, clean)
    except torch.OutOfMemoryError:
        raise BenchError(
            f"out of device memory with groups of {group.size}; set slots={group.size}, or a smaller defense.group.size"
        ) from None


def _write_groups(work: Run, ended: list[tuple[list[int], Todo, Finished]], clean: Clean) -> None:
    shares = _re_evaluated_together(work, [(todo, f) for _, todo, f in ended])
    for (block, _, f), share in zip(ended, shares, strict=True):
        place = dict(zip(work.samples.numbers(block).tolist(), block, strict=True))
        records = not_attacked(work, [p for p in block if not clean.right[p]], clean)
        work.write(records + _records(work, work.spec.threat, f, place, share))


def _show(line: Line, look: Look) -> None:
    line.asked(look.queried)
    if look.finished is not None:
        line.add(len(look.finished.y), broken=int(look.finished.fooled.sum()))


def _re_evaluated_alone(work: Run, f: Finished) -> list[float | None]:
    """For each row that fooled a stochastic victim, the share of fresh outputs on which its image still does."""
    share: list[float | None] = [None] * len(f.y)
    hit = f.fooled.nonzero()[:, 0]
    if len(hit) and work.victim.defense.traits.stochastic:
        found = rows.take(f, hit)
        again = success.re_evaluation_success(
            work.victim, found.found, found.y, found.target, found.sample, work.spec.re_evaluations
        )
        for i, value in zip(hit.tolist(), again.tolist(), strict=True):
            share[i] = value
    return share


def _re_evaluated_together(work: Run, ended: list[tuple[Todo, Finished]]) -> list[list[float | None]]:
    """The same of groups that ended together: in each, the found images are re-evaluated side by side, their batch neighbours
    clean."""
    shares: list[list[float | None]] = [[None] * len(f.y) for _, f in ended]
    some = [g for g, (_, f) in enumerate(ended) if f.fooled.any()]
    if not some or not work.victim.defense.traits.stochastic:
        return shares
    placed, pictures, lives = [], [], []
    for todo, f in (ended[g] for g in some):
        place = {number: i for i, number in enumerate(todo.sample.tolist())}
        hit = f.fooled.nonzero()[:, 0]
        index = torch.tensor([place[number] for number in f.sample[hit].tolist()], device=todo.y.device)
        x, live = todo.x.clone(), torch.zeros_like(todo.live)
        x[index], live[index] = f.found[hit], True
        placed.append((hit, index))
        pictures.append(x)
        lives.append(live)
    all_rows = rows.cat([ended[g][0] for g in some])
    sizes = [len(x) for x in pictures]
    work.victim.defense.reset()
    again = success.re_evaluation_success(
        work.victim, torch.cat(pictures), all_rows.y, all_rows.target, all_rows.sample, work.spec.re_evaluations,
        torch.cat(lives), sizes,
    ).split(sizes)  # fmt: skip
    for g, (hit, index), share in zip(some, placed, again, strict=True):
        for i, value in zip(hit.tolist(), share[index].tolist(), strict=True):
            shares[g][i] = value
    return shares


def _records(
    work: Run, threat: Threat, f: Finished, place: dict[int, int], success_share: list[float | None]
) -> list[dict[str, Any]]:
    """Finished rows as the store's rows, and their images where those are kept."""
    over = f.queries > threat.queries
    if over.any():
        raise BenchError(
            f"{int(over.sum())} samples drew more than threat.queries={threat.queries} queries: a bug in the attack"
        )
    if work.runtime.keep_images:  # before the records: a sample with a record has its image
        images.keep(work.runtime.artifacts, work.cell.key, f.sample, f.found, f.x)
    delta = (f.found.double() - f.x.double()).flatten(1)
    columns = {
        "sample": f.sample, "label": f.y, "target": f.target, "fooled": f.fooled, "undefined": f.undefined,
        "queries": f.queries, "margin": f.margin, "first_any": f.first_any, "seconds": f.seconds, "trace": f.trace,
        "linf": delta.abs().amax(1), "l2": delta.norm(dim=1), "refused": f.refused, "first_refused": f.first_refused,
    }  # fmt: skip
    plain = {name: column.tolist() for name, column in columns.items()}
    records = []
    for i, share in enumerate(success_share):
        row = {name: column[i] for name, column in plain.items()}
        row |= {"position": place[row["sample"]], "clean": True, "re_evaluation_success": share}
        row |= {name: None for name in ("target", "first_any", "first_refused") if row[name] < 0}
        row |= {} if work.victim.defense.traits.refuses else {"refused": None}
        row |= {name: None for name in ("linf", "l2") if not row["fooled"]}
        records.append(row)
    return records
