"""Are complete cells, which nothing runs again, still of the data that lies here?"""

from collections.abc import Iterable, Mapping
from typing import Any

from bench.config import key
from bench.config.grid import GridCell
from bench.config.specs import DatasetSpec
from bench.core.errors import BenchError
from bench.store.records import Cell


def contradictions(cells: Iterable[GridCell]) -> list[str]:
    """A line a cell whose records were made of other content than dataset.root has now. Where no data is, nothing is said."""
    found: dict[str, str | None] = {}
    named: dict[str, str] = {}
    for cell in cells:
        made = _made(cell)
        if not made.get("data"):
            continue
        here = _digest_here(cell.spec.dataset, found)
        if here is not None and here != made["data"]:
            named[cell.key] = (
                f"cell {cell.key} was made of data sha256 {made['data'][:12]}, but the data set here has {here[:12]}; bring the "
                "same data (dataset.root), or set store=<a new folder> to run it on this"
            )
    return list(named.values())


def _made(cell: GridCell) -> Mapping[str, Any]:
    try:
        return Cell(cell.runtime.store, cell.clean_key).made()
    except BenchError:  # damaged: named elsewhere
        return {}


def _digest_here(dataset: DatasetSpec, known: dict[str, str | None]) -> str | None:
    place = key.of({"dataset": dataset.plain(), "root": str(dataset.root)})
    if place not in known:
        from bench.data.samples import split_of  # torch loads here, and only where there is something to compare

        try:
            known[place] = split_of(dataset, "test").digest()
        except BenchError:
            known[place] = None
    return known[place]
