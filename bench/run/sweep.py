"""The cells of a grid through a launcher, to their end: what others work on is waited for, what a dying process took along is
started once more. Imports no torch."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from hydra.plugins.launcher import Launcher

from bench.config import resolvers, talk
from bench.config.grid import GridCell
from bench.core.errors import BenchError, one_line
from bench.launch import jobs, slurm
from bench.launch.elsewhere import elsewhere, jobs_of, name
from bench.run.job import Busy, Done, Failed
from bench.run.watch import Watch, complete
from bench.store import leases, marks

STRIKES = 2  # pools that may die with a cell in them before it is taken for the reason
EVERY = 2.0  # seconds between two looks at what others do


class Sweep:
    """cells: distinct ones. fail_fast: no new cell once one failed, those at work are ended where the launcher can. each: cells
    that one Slurm job does, one after another."""

    def __init__(self, launcher: Launcher, cells: Sequence[GridCell], fail_fast: bool = False, each: int = 1) -> None:
        self.launcher, self.cells, self.fail_fast, self.each = launcher, cells, fail_fast, each
        self.kind = type(launcher).__name__
        self.failed: dict[str, tuple[GridCell, Failed]] = {}
        self._noted = self._failures()  # of earlier runs
        self._strikes: dict[str, int] = {}
        self._launched = 0

    def run(self) -> list[tuple[GridCell, Failed]]:
        """The cells that failed. Interrupted, it says what goes on."""
        # the basic launcher's cells run in this process, and each says its place in the grid
        silent = self.kind == "BasicLauncher" or talk.quiet()
        try:
            with nullcontext() if silent else Watch(self.cells, lambda: len(self.failed)):
                self._run()
        except KeyboardInterrupt:
            if going := jobs_of(self.cells):
                ids = sorted({job.id for job in going.values()}, key=lambda id: [int(part) for part in id.split("_")])
                named = ", ".join(ids[:4]) + (", ..." if len(ids) > 4 else "")
                print(f"\n{len(ids)} jobs go on in Slurm ({named}): the same command waits for them, the verb cancel ends them",
                      file=sys.stderr)  # fmt: skip
            raise
        if self.fail_fast and self.failed:
            slurm.cancel(list(dict.fromkeys(job.id for job in jobs_of(self.cells).values())))
        return list(self.failed.values())

    def _run(self) -> None:
        left = list(self.cells)
        while left and not (self.fail_fast and self.failed):
            there = elsewhere(left)
            free = [cell for cell in left if name(cell) not in there]
            others = [cell for cell in left if name(cell) in there]
            again, strikes = list[GridCell](), sum(self._strikes.values())
            for cell, outcome in self._launch(free):
                if isinstance(outcome, Busy):
                    others.append(cell)
                elif not isinstance(outcome, Done) and not self._settled(cell, outcome):
                    again.append(cell)
                    if len(again) == len(free) and sum(self._strikes.values()) == strikes:
                        raise BenchError(f"the launcher began none of {len(free)} cells: {one_line(outcome)[:300]}")
                if self.fail_fast and self.failed:
                    break
            else:
                given = jobs_of(others)
                for cell in self._let_go(others):
                    if not self._settled(cell, _gone(given.get(name(cell)))):
                        again.append(cell)
                    if self.fail_fast and self.failed:
                        break
            left = again

    def _launch(self, cells: Sequence[GridCell]) -> Iterator[tuple[GridCell, Any]]:
        if not cells:
            return
        first, self._launched = self._launched, self._launched + len(cells)
        works = [
            jobs.Work(name(cell), [*cell.overrides, f"place='{first + i}/{max(len(self.cells), self._launched)}'"])
            for i, cell in enumerate(cells, start=1)
        ]
        store = cells[0].runtime.store
        if self.kind == "SlurmLauncher":
            outcomes = jobs.of_slurm(self.launcher, works, store, first, self.each)
        elif self.kind == "LocalLauncher":
            outcomes = jobs.of_this_machine(self.launcher, works, resolvers.jobs(), first)
        else:
            outcomes = self._in_turn(works, first)
        for i, outcome in outcomes:
            yield cells[i], outcome

    def _in_turn(self, works: Sequence[jobs.Work], first: int) -> Iterator[jobs.Outcome]:
        """All at once, or so few that a failure is seen before the next are started."""
        size = resolvers.jobs() if self.fail_fast else len(works)
        for start in range(0, len(works), size):
            for i, outcome in jobs.of_any(self.launcher, works[start : start + size], first + start):
                yield start + i, outcome

    def _settled(self, cell: GridCell, outcome: Any) -> bool:
        """Is the cell done, or known to have failed? outcome: what came instead of Done; None: another process had it."""
        if isinstance(outcome, Failed):
            self.failed[name(cell)] = cell, outcome
            return True
        if cell.runtime.shard == (1, 1) and complete(cell):
            return True
        now, before = marks.failure(cell.runtime.store, cell.key), self._noted.get(name(cell))
        if now is not None and now != before:
            self.failed[name(cell)] = cell, Failed(now.line)
            return True
        if outcome is None:
            return False
        return self._lost(cell, outcome)

    def _lost(self, cell: GridCell, error: Exception) -> bool:
        """Its process died. Slurm's is named at once; a pool dies as a whole, so its cells get a second chance."""
        strikes = self._strikes.get(name(cell), 0) + leases.begun(cell.runtime.store, cell.key, cell.runtime.shard)
        self._strikes[name(cell)] = strikes
        if (
            not isinstance(error, BenchError)
            and self.kind not in ("SlurmLauncher", "LocalLauncher")
            and strikes < STRIKES
        ):
            return False
        line = str(error) if isinstance(error, BenchError) else f"its process was lost: {one_line(error)[:300]}"
        marks.fail(cell.runtime.store, cell.key, line, cell.command)
        self.failed[name(cell)] = cell, Failed(line)
        return True

    def _failures(self) -> dict[str, marks.Failure]:
        stores = {cell.runtime.store for cell in self.cells}
        noted = {key: one for store in stores for key, one in marks.failures(store).items()}
        return {name(cell): noted[cell.key] for cell in self.cells if cell.key in noted}

    def _let_go(self, cells: Sequence[GridCell]) -> Iterator[GridCell]:
        """Each cell as soon as nobody is at work on it any more. What is waited for is told once, and again where jobs pend for
        another reason; the rest is the grid's progress."""
        left, said, missed = list(cells), None, set[str]()
        while left:
            there = elsewhere(left)
            gone = [cell for cell in left if name(cell) not in there]
            for cell in gone:
                # where a job ends, its result may come late: of what lacks it a second look decides
                if name(cell) in missed or complete(cell):
                    left.remove(cell)
                    yield cell
            missed = {name(cell) for cell in gone}
            places = list(dict.fromkeys(there.values()))
            if there and (pending := {place.partition("(")[2] for place in places if "(pending" in place}) != said:
                named = "; ".join(places[:3]) + ("; ..." if len(places) > 3 else "")
                talk.say(f"{len(there)} cells are at work elsewhere, waiting for them: {named}")
                said = pending
            if left:
                time.sleep(EVERY)


def _gone(job: slurm.Job | None) -> BenchError | None:
    """Of a job that another start gave to Slurm, where its cell is not done: to run it again is for a person to say."""
    if job is None:
        return None
    return BenchError(
        f"Slurm job {job.id} ended before its cell did ({slurm.last_word(job.id)}); the verb retry runs it again"
    )
