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


@dataclass(frozen=True)
class CellStatus:
    key: str
    state: State
    samples: int  # finished ones
    of: int | None  # all; None: all of the data set, whose size no part has said yet
    said: str  # where it runs and since when, or why it failed
    command: str


def status(cells: Sequence[GridCell]) -> list[CellStatus]:
    """One entry a distinct cell, in the grid's order."""
    distinct = {cell.key: cell for cell in look.cells(cells)}
    stores = {cell.runtime.store for cell in distinct.values()}
    running = {one.key: one for store in stores for one in leases.running(store).values()}
    queued = {key.partition(" ")[0]: where for key, where in elsewhere.elsewhere(distinct.values()).items()}
    failed = {key: one for store in stores for key, one in marks.failures(store).items()}
    return [_one(cell, running.get(key), queued.get(key), failed.get(key)) for key, cell in distinct.items()]


def _one(
    cell: GridCell, running: leases.Running | None, queued: str | None, failed: marks.Failure | None
) -> CellStatus:
    stored, n = Cell(cell.runtime.store, cell.key), cell.spec.samples.n
    try:
        if stored.complete(n):
            return CellStatus(cell.key, "done", n or 0, n, "", cell.command)
        positions = stored.positions()
        samples = len([p for p in positions if n is None or p < n])
    except BenchError as error:
        return CellStatus(cell.key, "damaged", 0, n, str(error), cell.command)
    if running is not None:
        said = f"{running.where} for {_span(time.time() - running.since)}"
        return CellStatus(cell.key, "running", samples, n, said, cell.command)
    if queued is not None:
        return CellStatus(cell.key, "queued", samples, n, queued, cell.command)
    if failed is not None:
        return CellStatus(cell.key, "failed", samples, n, failed.line, cell.command)
    return CellStatus(cell.key, "partial" if samples else "missing", samples, n, "", cell.command)


def _span(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes // 60}:{minutes % 60:02d} h" if minutes >= 60 else f"{minutes}:{int(seconds) % 60:02d} min"


def counts(found: Sequence[CellStatus]) -> dict[str, int]:
    return {state: n for state in ORDER if (n := sum(each.state == state for each in found))}


def lines(found: Sequence[CellStatus]) -> list[str]:
    """The counts, then every cell that is neither done nor just missing."""
    text = [", ".join(f"{n} {state}" for state, n in counts(found).items()) + f" of {len(found)} cells"]
    for each in sorted(found, key=lambda one: ORDER.index(one.state)):
        if each.state in ("done", "missing"):
            continue
        progress = f"{each.samples}/{each.of or '?'} samples"
        text.append("  " + ", ".join(part for part in (f"{each.state} {each.key}", progress, each.said) if part))
        text.append(f"    {each.command}")
    return text


def plain(found: Sequence[CellStatus]) -> dict[str, Any]:
    """For JSON."""
    return {"counts": counts(found), "cells": [asdict(each) for each in found]}
