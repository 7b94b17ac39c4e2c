"""Hands the grid's missing cells to whatever Hydra launcher is configured, then prints the tables.

Hydra takes sweepers only from the namespace `hydra_plugins`, so pyproject maps that name to this folder.
"""

import shutil
import sys
from collections.abc import Sequence
from urllib.parse import quote, unquote

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from bench.config import grid, rehearsal, talk
from bench.config.overrides import typed_words
from bench.core.errors import BenchError
from bench.core.place import Place, Remote, on_disk
from bench.report import specification
from bench.run import same_data
from bench.run.sweep import Sweep
from bench.store import look, marks
from bench.store.records import Cell

TYPED = "hydra.sweeper.typed"


def packed(words: Sequence[str]) -> str:
    """Words as one that Hydra's override grammar and OmegaConf leave alone."""
    return quote("\n".join(words), safe="").replace("~", "%7E")


class GridSweeper(Sweeper):
    """All cells are composed before any is launched; complete ones are dropped; a failed one doesn't stop the rest.

    only: `failed` runs the cells that failed last, and no other. fail_fast: no new cell once one failed. cells_per_job: of Slurm.
    typed: `packed` words of the command line, of which Hydra itself got each sweep's first value.
    """

    launcher: Launcher

    def __init__(
        self, only: str | None = None, fail_fast: bool = False, cells_per_job: int = 1, typed: str | None = None
    ) -> None:
        self.only, self.fail_fast, self.each, self.typed = only, fail_fast, cells_per_job, typed

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(  # pyright: ignore[reportIncompatibleVariableOverride]
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        try:
            typed = arguments if self.typed is None else unquote(self.typed).split("\n")
            failures = self._run(typed, [word for word in typed if typed_words([word])[0][0].node != "hydra"])
        except BenchError as error:  # an exception would reach people as Hydra's traceback
            sys.exit(f"error: {error}")
        if failures:
            sys.exit(1)

    def _run(self, typed: Sequence[str], arguments: Sequence[str]) -> int:
        """arguments: what is typed of the cells, Hydra's own settings apart."""
        if type(self.each) is not int or self.each < 1:
            raise BenchError(f"hydra.sweeper.cells_per_job={self.each} must be a whole number from 1 on")
        cells = grid.cells(arguments)
        if not rehearsal.is_on(cells[0].config):
            with talk.log(cells[0].runtime.store, typed):
                return self._swept(arguments, cells)
        place = rehearsal.store(cells[0].config)
        for group in ("dataset", "model"):
            talk.say(f"rehearsal: stand-ins for {group} {', '.join(sorted({cell.choices[group] for cell in cells}))}")
        _remove(place)
        try:
            return self._swept(arguments, cells)
        finally:
            _remove(place)

    def _swept(self, arguments: Sequence[str], cells: Sequence[grid.GridCell]) -> int:
        shown = specification.read(arguments)  # a mistake in a table is said before the work, not after days of it
        stored, seen = Stored(), look.cells(cells)
        missing = list(
            {cell.key: cell for cell, now in zip(cells, seen, strict=True) if not stored.complete(now)}.values()
        )
        for line in stored.notes:
            talk.say(line)
        if self.only == "failed":
            failed = {key for store in {cell.runtime.store for cell in missing} for key in marks.failures(store)}
            missing = [cell for cell in missing if cell.key in failed]
        talk.say(f"{len({cell.key for cell in cells})} cells, {len(missing)} to run; store: {cells[0].runtime.store}")
        other_data = same_data.contradictions(cell for cell in seen if stored.complete(cell))
        failures = Sweep(self.launcher, missing, self.fail_fast, self.each).run()
        from bench.report import reporter  # pandas and rich load in half a second: after the work, not before it

        whole = True
        try:
            if len(failures) < len({cell.key for cell in cells}):  # where all failed, the reasons are the news
                whole = reporter.show(cells, shown)
        finally:
            for cell, failed in failures:
                print(f"error: {failed.line}\n       in {cell.command}", file=sys.stderr)
            for line in [*stored.damaged.values(), *other_data]:
                print(f"error: {line}", file=sys.stderr)
        return len(failures) + len(stored.damaged) + len(other_data) + (not whole)


class Stored:
    """What the store has of a grid. A cell whose records can't be believed counts as missing."""

    def __init__(self) -> None:
        self.damaged: dict[str, str] = {}  # key -> one line
        self.notes: list[str] = []  # copies that were written anew
        self._known: dict[tuple[Place, str, int | None], bool] = {}  # many attacks share a clean pass

    def complete(self, cell: grid.GridCell) -> bool:
        """Shards of a cell are always launched: they find out themselves what is left for them."""
        store, n = cell.runtime.store, cell.spec.samples.n
        attacked, clean = (self._complete(store, key, n) for key in (cell.key, cell.clean_key))  # both are looked at
        return attacked and clean

    def _complete(self, store: Place, key: str, n: int | None) -> bool:
        place = (store, key, n)
        if place not in self._known:
            try:
                stored = Cell(store, key)
                self._known[place] = stored.complete(n)
                self.notes += [line for line in [stored.mend_copy()] if line]
            except BenchError as error:
                self.damaged[key], self._known[place] = str(error), False
        return self._known[place]


def _remove(place: Place) -> None:
    if isinstance(place, Remote):
        place.remove_tree()
    shutil.rmtree(on_disk(place), ignore_errors=True)
