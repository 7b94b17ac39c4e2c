"""How far the whole grid is, a line now and then while a launcher's processes work: read from the store, so whatever the launcher
and wherever they are. Imports no torch."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TextIO

from bench.config.grid import GridCell
from bench.core.errors import BenchError
from bench.store import leases, look
from bench.store.records import Cell

EVERY = 15.0  # seconds between two looks at the store


class Watch:
    """Looks as long as it is entered. failed: how many cells the sweep knows to have failed."""

    def __init__(
        self, cells: Sequence[GridCell], failed: Callable[[], int], out: TextIO | None = None, every: float = EVERY
    ) -> None:
        self.total, self.left, self.failed = len(cells), list(cells), failed
        self.out, self.every = out or sys.stderr, every
        self.began, self.first = time.monotonic(), len(cells)  # cells that lacked samples at the first look
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self.left = lacking(self.left)
        self.first = len(self.left)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        said = ""
        while not self._over.wait(self.every):
            try:
                line = self.line()
            except BenchError:  # an address that can't be reached now: whoever writes there says so
                continue
            if line != said:
                self.out.write(f"{line}\n")
                self.out.flush()
            said = line

    def line(self) -> str:
        """Shards of one cell count as one each, and are done together."""
        self.left = lacking(self.left)
        stores = {cell.runtime.store for cell in self.left}
        running = {one.key for store in stores for one in leases.running(store).values()}
        at_work = sum(cell.key in running for cell in self.left)
        parts = [f"grid: {self.total - len(self.left)} of {self.total} cells done", f"{at_work} running"]
        if failed := self.failed():
            parts.append(f"{failed} failed")
        if (finished := self.first - len(self.left)) and self.left:
            seconds = (time.monotonic() - self.began) / finished * len(self.left)
            minutes = max(round(seconds / 60), 1)
            parts.append(
                f"about {minutes // 60}:{minutes % 60:02d} h left" if minutes >= 60 else f"about {minutes} min left"
            )
        return ", ".join(parts)


def lacking(cells: Sequence[GridCell]) -> list[GridCell]:
    """Those that lack samples."""
    return [cell for cell, seen in zip(cells, look.cells(cells), strict=True) if not complete(seen)]


def complete(cell: GridCell) -> bool:
    """Has it all of its samples, and its clean pass?"""
    store, n = cell.runtime.store, cell.spec.samples.n
    try:
        return all(Cell(store, key).complete(n) for key in {cell.key, cell.clean_key})
    except BenchError:
        return False
