"""Which cell of the grid a table's `where` means, and what of it is stored. Imports no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config import identity
from bench.config.grid import GridCell
from bench.core.errors import BenchError
from bench.store.records import Cell


class Missing(Exception):
    def __init__(self, key: str, command: str) -> None:
        super().__init__()
        self.key, self.command = key, command


def needed(cell: GridCell, wanted: str, linked: str) -> Cell:
    """The stored cell with key `wanted`; raises Missing where it lacks samples."""
    stored = Cell(Path(cell.config["store"]), wanted)
    if not stored.complete(identity.samples(cell.config)["n"]):
        raise Missing(linked, cell.command)
    return stored


def clean_pass(cell: GridCell, n: int | None) -> pd.DataFrame:
    """The clean pass of another row's victim on as many samples."""
    stored = Cell(Path(cell.config["store"]), cell.clean_key)
    if not stored.complete(n):
        raise Missing(cell.clean_key, cell.command)
    return first(Path(cell.config["store"]), cell.clean_key, n)


def attacked(cell: GridCell, column: Mapping[str, Any], label: str) -> pd.DataFrame:
    stored = needed(cell, cell.key, cell.key)
    needed(cell, cell.clean_key, cell.key)
    at = column.get("at")
    if at is not None and at != cell.config["threat"]["queries"] and not stored.description().get("anytime"):
        raise BenchError(
            f"{label}: `at: {at}` needs an attack whose first queries don't depend on the budget; set attack.horizon"
        )
    if at is not None and at > cell.config["threat"]["queries"]:
        raise BenchError(f"{label}: `at: {at}` exceeds the budget that was run, {cell.config['threat']['queries']}")
    return first(Path(cell.config["store"]), cell.key, identity.samples(cell.config)["n"])


def only(cells: Sequence[GridCell], where: Mapping[str, Any], label: str, clean: bool) -> GridCell:
    found = [cell for cell in cells if cell.matches(where)]
    different = {cell.clean_key if clean else cell.key for cell in found}
    if len(different) == 1:  # n is no part of a key: of cells that differ in it alone, the largest
        return max(found, key=lambda cell: identity.samples(cell.config)["n"] or float("inf"))
    what = "matches no cell" if not found else f"matches {len(different)} cells"
    seen = [{name: cell.choices.get(name) or _value(cell, name) for name in where} for cell in (found or cells)]
    unique = [dict(items) for items in dict.fromkeys(tuple(each.items()) for each in seen)]
    raise BenchError(
        f"{label}: {dict(where)} {what} of the grid; candidates: {unique[:6]}; make `where` or the grid more exact"
    )


def _value(cell: GridCell, name: str) -> Any:
    node: Any = cell.config
    for part in name.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def first(store: Path, key: str, n: int | None) -> pd.DataFrame:
    """Exactly the first n samples of the cell's order."""
    frame = Cell(store, key).frame()
    return frame if n is None else frame.loc[frame["position"] < n].reset_index(drop=True)
