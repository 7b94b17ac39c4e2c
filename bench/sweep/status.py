"""How far a grid is: each cell done, running, failed, partial or missing, from the store alone. Imports no torch."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.config.grid import GridCell
from bench.core.errors import BenchError
from bench.launch import elsewhere
from bench.store import leases, look, marks
from bench.store.records import Cell

State = Literal["done", "running", "queued", "failed", "damaged", "partial", "missing"]
ORDER: tuple[State, ...] = ("running", "queued", "failed", "damaged", "partial", "missing", "done")
SHOWN = 8  # queued cells that are listed one by one


@dataclass(frozen=True)
class CellStatus:
    key: str
    state: State
    samples: int  # finished ones
    of: int | None  # all; None: all of the data set, whose size no part has said yet
    said: str  # where it runs and since when, or why it failed
    command: str
    name: str  # what tells it from the other cells asked for


def status(cells: Sequence[GridCell]) -> list[CellStatus]:
    """One entry a distinct cell, in the grid's order."""
    distinct = {cell.key: cell for cell in look.cells(cells)}
    stores = {cell.runtime.store for cell in distinct.values()}
    running = {one.key: one for store in stores for one in leases.running(store).values()}
    queued = {key.partition(" ")[0]: where for key, where in elsewhere.elsewhere(distinct.values()).items()}
    failed = {key: one for store in stores for key, one in marks.failures(store).items()}
    shared = set[str].intersection(*(set(cell.overrides) for cell in distinct.values())) if distinct else set[str]()
    return [_one(cell, shared, running.get(key), queued.get(key), failed.get(key)) for key, cell in distinct.items()]


def _one(
    cell: GridCell, shared: set[str], running: leases.Running | None, queued: str | None, failed: marks.Failure | None
) -> CellStatus:
    stored, n = Cell(cell.runtime.store, cell.key), cell.spec.samples.n
    about = cell.command, " ".join(word for word in cell.overrides if word not in shared) or cell.key
    try:
        if stored.complete(n):
            return CellStatus(cell.key, "done", n or 0, n, "", *about)
        positions = stored.positions()
        samples = len([p for p in positions if n is None or p < n])
    except BenchError as error:
        return CellStatus(cell.key, "damaged", 0, n, str(error), *about)
    if running is not None:
        said = f"{running.where} for {_span(time.time() - running.since)}"
        return CellStatus(cell.key, "running", samples, n, said, *about)
    if queued is not None:
        return CellStatus(cell.key, "queued", samples, n, queued, *about)
    if failed is not None:
        return CellStatus(cell.key, "failed", samples, n, failed.line, *about)
    return CellStatus(cell.key, "partial" if samples else "missing", samples, n, "", *about)


def _span(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes // 60}:{minutes % 60:02d} h" if minutes >= 60 else f"{minutes}:{int(seconds) % 60:02d} min"


def counts(found: Sequence[CellStatus]) -> dict[str, int]:
    return {state: n for state in ORDER if (n := sum(each.state == state for each in found))}


def lines(found: Sequence[CellStatus]) -> list[str]:
    """The counts, then every cell that is neither done nor just missing; of the queued ones the first."""
    text = [", ".join(f"{n} {state}" for state, n in counts(found).items()) + f" of {len(found)} cells"]
    queued = [each for each in found if each.state == "queued"]
    for each in sorted(found, key=lambda one: ORDER.index(one.state)):
        if each.state in ("done", "missing", "queued") and each not in queued[:SHOWN]:
            continue
        at_work = each.state in ("running", "queued")
        known = (
            f"{each.state} {each.name if at_work else each.key}",
            f"{each.samples}/{each.of or '?'} samples",
            each.said,
        )
        text.append("  " + ", ".join(part for part in known if part))
        if not at_work:
            text.append(f"    {each.command}")
        elif len(queued) > SHOWN and each is queued[SHOWN - 1]:
            text.append(f"  and {len(queued) - SHOWN} more queued")
    return text


def plain(found: Sequence[CellStatus]) -> dict[str, Any]:
    """For JSON."""
    return {"counts": counts(found), "cells": [asdict(each) for each in found]}
