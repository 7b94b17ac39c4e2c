"""bench.table and bench.records: what is stored already. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config import grid, resolvers
from bench.core import place
from bench.core.errors import BenchError
from bench.core.place import Place
from bench.report import specification
from bench.report.notes import notes
from bench.report.records import Records
from bench.report.seeds import BySeed, build_over
from bench.report.select import CellIndex
from bench.report.table import Table
from bench.store import look, packs
from bench.store.records import Cell


def table(
    experiment: str, store: str | Path | None = None, words: Sequence[str] = ()
) -> dict[str, tuple[Table, list[str]]]:
    """An experiment's tables with their notes, by name; entries that lack records are dashes. Raises BenchError."""
    typed = [f"+experiment={experiment}", *([f"store={store}"] if store is not None else []), *words]
    spec, cells, records = specification.read(typed), look.cells(grid.cells(typed)), Records()
    by_seed = BySeed(CellIndex(cells))
    built = {name: build_over(name, each, by_seed, records, spec.narrowed) for name, each in spec.tables.items()}
    return {name: (each, notes(each)) for name, each in built.items()}


def records(store: str | Path | None = None, lists: bool = False) -> pd.DataFrame:
    """Every record of a store (None: the default one), a row a sample and cell: the cell's key, its main settings as columns
    `dataset.… model.… defense.… attack.… threat.…`, then the record's. lists: logits and traces, too. Raises BenchError."""
    folder = look.at(place.of(store if store is not None else resolvers.default_store()))
    frames = [_with_config(key, folder, lists) for key in keys(folder)]
    if not frames:
        raise BenchError(f"{folder} has no records; name another store, or run a cell first")
    return pd.concat(frames, ignore_index=True)


def keys(store: Place) -> list[str]:
    """Of every cell that has records there, packed ones too."""
    loose = {path.parent.name for path in (store / "cells").glob("*/part-*.parquet")}
    return sorted(loose | {key for file in packs.files(store) for key in packs.load(file).cells})


def _with_config(key: str, store: Place, lists: bool) -> pd.DataFrame:
    cell = Cell(store, key)
    frame, config = cell.frame(), cell.description()["config"]
    kept = frame if lists else frame.drop(columns=["logits", "trace"], errors="ignore")
    kept = kept.dropna(axis=1, how="all")
    of_cell = pd.DataFrame([{"cell": key} | settings(config)] * len(kept), index=kept.index)
    return pd.concat([of_cell, kept], axis=1)


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """The plain values of a cell's identity by dotted names, without the recipe's and the data set's own numbers."""
    found: dict[str, Any] = {}

    def walk(node: Any, place: str) -> None:
        if isinstance(node, dict):
            for name, value in node.items():
                walk(value, f"{place}.{name}" if place else str(name))
        elif not isinstance(node, list):
            found[place] = node

    walk({name: value for name, value in config.items() if name != "recipe"}, "")
    return found
