"""A step of an audit, alone or shared by several processes (`shard=2/8`): each begins with its own part of the images, and helps
with parts that nobody works on. None goes on before all are there, so that all of them send the next step against the same."""

import time
from collections.abc import Sequence

from bench.config.grid import GridCell
from bench.core.errors import BenchError
from bench.models.split import Split
from bench.run import cell
from bench.run.progress import Line
from bench.store.leases import Held, Lease
from bench.store.records import Cell

PAUSE = 1.0  # seconds between two looks at what others have done


def execute(one: GridCell, positions: Sequence[int], title: str, given: Split | None = None) -> None:
    """Returns once every position has its record. Raises BenchError."""
    own, of = one.runtime.shard
    line, left = Line(title), [*range(own, of + 1), *range(1, own)]
    try:
        while left:
            others = list[str]()
            for number in tuple(left):
                try:
                    _part(one, positions, (number, of), line, given)
                    left.remove(number)
                except Held as other:
                    others.append(f"part {number}/{of} {other.by.where}")
                if len(left) < of and Cell(one.runtime.store, one.key).positions().issuperset(positions):
                    left.clear()
                    break
            if left:
                line.waits("; ".join(others))
                time.sleep(PAUSE)
    except BenchError:
        line.end("refused")
        raise
    line.end("done")


def _part(one: GridCell, positions: Sequence[int], shard: tuple[int, int], line: Line, given: Split | None) -> None:
    """Raises Held where another process does it."""
    runtime = one.runtime.model_copy(update={"only": tuple(positions), "shard": shard})
    with Lease(runtime.store, one.key, one.command, shard):
        cell.execute(one.spec, runtime, line, one.command, given)
