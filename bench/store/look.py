"""A store as it is at one moment, for those who ask of many cells: of an address one listing, and parts fetched side by side, for
each cell alone takes two requests. A folder is asked file by file as ever. Imports no torch."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.config.grid import GridCell
from bench.core import place
from bench.core.place import Place, Remote


def at(store: Place, keys: Iterable[str] | None = None) -> Place:
    """keys: of the cells that will be read; None: all. Raises BenchError where an address can't be reached."""
    if not isinstance(store, Remote):
        return store
    seen = replace(store, view=(store.now() / "cells").seen().view)
    folders = (seen / "cells").glob("*") if keys is None else [seen / "cells" / key for key in dict.fromkeys(keys)]
    place.fetch(part for folder in folders if isinstance(folder, Remote) for part in folder.glob("part-*.parquet"))
    return seen


def cells(asked: Sequence[GridCell]) -> list[GridCell]:
    """The same cells, of stores as they are now."""
    remote = {cell.runtime.store for cell in asked if isinstance(cell.runtime.store, Remote)}
    keys = [key for cell in asked for key in (cell.key, cell.clean_key)] if remote else []
    seen = {store: at(store, keys) for store in remote}
    return [_moved(cell, seen[store]) if (store := cell.runtime.store) in seen else cell for cell in asked]


def _moved(cell: GridCell, store: Place) -> GridCell:
    return replace(cell, runtime=cell.runtime.model_copy(update={"store": store}))
