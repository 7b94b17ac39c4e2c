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
    line = Line(title)
    try:
        while (whom := _left_to(one, positions, line, given)) is not None:
            line.waits(whom)
            time.sleep(PAUSE)
    except BenchError:
        line.end("refused")
        raise
    line.end("done")


def _left_to(one: GridCell, positions: Sequence[int], line: Line, given: Split | None) -> str | None:
    """Does what no other process does, this one's own part first -> what others still do, and who; None: all is there."""
    own, of = one.runtime.shard
    begun, others = False, list[str]()
    for number in [*range(own, of + 1), *range(1, own)]:
        if begun and Cell(one.runtime.store, one.key).positions().issuperset(positions):
            return None
        runtime = one.runtime.model_copy(update={"only": tuple(positions), "shard": (number, of)})
        try:
            with Lease(runtime.store, one.key, one.command, runtime.shard):
                cell.execute(one.spec, runtime, line, one.command, given)
            begun = True
        except Held as other:
            others.append(f"part {number}/{of} {other.by.where}")
    return "; ".join(others) or None
