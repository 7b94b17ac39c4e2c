"""Hands the grid's missing cells to whatever Hydra launcher is configured, then prints the tables.

Hydra takes sweepers only from the namespace `hydra_plugins`, so pyproject maps that name to this folder.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from bench.config import grid, resolvers
from bench.core.errors import BenchError
from bench.run import same_data
from bench.run.job import Failed
from bench.store import marks
from bench.store.records import Cell

STARTS_ALL = {"LocalLauncher"}  # submitit's: it starts every job it gets at once, so it gets a few at a time


class GridSweeper(Sweeper):
    """All cells are composed before any is launched; complete ones are dropped; a failed one doesn't stop the rest."""

    launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(  # pyright: ignore[reportIncompatibleVariableOverride]
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        try:
            failures = self._run(arguments)
        except BenchError as error:  # an exception would reach people as Hydra's traceback
            sys.exit(f"error: {error}")
        if failures:
            sys.exit(1)

    def _run(self, arguments: Sequence[str]) -> int:
        cells = grid.cells(arguments)
        stored = Stored()
        missing = list({cell.key: cell for cell in cells if not stored.complete(cell)}.values())
        for line in stored.notes:
            print(line, file=sys.stderr)
        print(
            f"{len({cell.key for cell in cells})} cells, {len(missing)} to run; store: {cells[0].config['store']}",
            file=sys.stderr,
        )
        other_data = same_data.contradictions(cell for cell in cells if stored.complete(cell))
        elsewhere = _elsewhere(missing)
        missing = [cell for cell in missing if cell.key not in elsewhere]
        jobs = [[*cell.overrides, f"place='{i}/{len(missing)}'"] for i, cell in enumerate(missing, start=1)]
        failures = [
            (cell, outcome)
            for cell, outcome in zip(missing, self._launch(jobs), strict=True)
            if isinstance(outcome, Failed)
        ]
        failures += self._waited(elsewhere)
        from bench.report import (  # pandas and rich load in half a second: after the work, not before it
            reporter,
            specification,
        )

        whole = True
        try:
            if len(failures) < len({cell.key for cell in cells}):  # where all failed, the reasons are the news
                whole = reporter.show(cells, specification.read(arguments))
        finally:
            for cell, failed in failures:
                print(f"error: {failed.line}\n       in {cell.command}", file=sys.stderr)
            for line in [*stored.damaged.values(), *other_data]:
                print(f"error: {line}", file=sys.stderr)
        return len(failures) + len(stored.damaged) + len(other_data) + (not whole)

    def _waited(self, elsewhere: Mapping[str, grid.GridCell]) -> list[tuple[grid.GridCell, Failed]]:
        """Waits for cells that other processes work on, and does what those leave."""
        if not elsewhere:
            return []
        print(
            f"{len(elsewhere)} cells are at work elsewhere (bench.sweep status says where); waiting for them",
            file=sys.stderr,
        )
        while _elsewhere(list(elsewhere.values())):
            time.sleep(2)
        left = [cell for cell in elsewhere.values() if not Stored().complete(cell)]
        outcomes = zip(left, self._launch([list(cell.overrides) for cell in left]), strict=True)
        return [(cell, outcome) for cell, outcome in outcomes if isinstance(outcome, Failed)]

    def _launch(self, jobs: list[list[str]]) -> list[Any]:
        outcomes: list[Any] = []
        size = resolvers.jobs() if type(self.launcher).__name__ in STARTS_ALL else max(len(jobs), 1)
        for start in range(0, len(jobs), size):
            for done in self.launcher.launch(jobs[start : start + size], initial_job_idx=start):
                try:
                    outcomes.append(
                        done.return_value
                    )  # raises what the launcher itself met (a killed cluster job, say)
                except Exception as error:
                    outcomes.append(Failed(f"the launcher lost this job: {' '.join(str(error).split())[:300]}"))
        return outcomes


def _elsewhere(cells: Sequence[grid.GridCell]) -> dict[str, grid.GridCell]:
    """Cells that another process holds a live lease on: done twice they would cost twice. Shards share a cell by intent."""
    running = {key for store in {cell.runtime.store for cell in cells} for key in marks.running(store)}
    return {cell.key: cell for cell in cells if cell.key in running and cell.runtime.shard == (1, 1)}


class Stored:
    """What the store has of a grid. A cell whose records can't be believed counts as missing."""

    def __init__(self) -> None:
        self.damaged: dict[str, str] = {}  # key -> one line
        self.notes: list[str] = []  # copies that were written anew
        self._known: dict[tuple[Path, str, int | None], bool] = {}  # many attacks share a clean pass

    def complete(self, cell: grid.GridCell) -> bool:
        """Shards of a cell are always launched: they find out themselves what is left for them."""
        store, n = cell.runtime.store, cell.spec.samples.n
        attacked, clean = (self._complete(store, key, n) for key in (cell.key, cell.clean_key))  # both are looked at
        return attacked and clean

    def _complete(self, store: Path, key: str, n: int | None) -> bool:
        place = (store, key, n)
        if place not in self._known:
            try:
                stored = Cell(store, key)
                self._known[place] = stored.complete(n)
                self.notes += [line for line in [stored.mend_copy()] if line]
            except BenchError as error:
                self.damaged[key], self._known[place] = str(error), False
        return self._known[place]
