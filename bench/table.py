"""A table's YAML + the grid's cells + the store -> entries: ours with n and interval, the paper's number beside it.

tables:
  table1:
    title: ...
    printed: unig_table1.csv                    # below results/papers; optional
    select: {dataset: CIFAR10}                  # its rows that belong to this table
    reference: {defense: none}                  # logit_diff's undefended net
    rows:    [{name: UniG, where: {defense: unig}, printed: {defense: UniG}}, ...]
    columns: [{name: Square-100, metric: robust_acc, where: {attack: square, threat.queries: 100}, printed: {...}}, ...]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench import key
from bench.errors import BenchError, nearest
from bench.grid import GridCell
from bench.metrics import METRICS, Frames, Value, compute
from bench.store import Cell

CLEAN_METRICS = {"clean_acc", "logit_diff"}
FIELDS = {"title", "printed", "select", "reference", "rows", "columns", "notes"}


@dataclass(frozen=True)
class Entry:
    row: str
    column: str
    metric: str
    ours: Value | None  # None = the cell is missing
    printed: float | None
    key: str
    command: str  # fills the cell if it is missing

    @property
    def difference(self) -> float | None:
        return None if self.ours is None or self.printed is None else self.ours.value - self.printed

    @property
    def outside(self) -> bool:
        """The paper's number lies outside our interval."""
        if self.ours is None or self.printed is None:
            return False
        return not self.ours.low <= self.printed <= self.ours.high


@dataclass(frozen=True)
class Table:
    name: str
    title: str
    notes: list[str]
    rows: list[str]
    columns: list[str]
    entries: dict[tuple[str, str], Entry]


def build(name: str, spec: Mapping[str, Any], cells: Sequence[GridCell], narrowed: bool = False) -> Table:
    """Raises BenchError where a row and column match no cell (unless the command line narrowed the grid) or two."""
    for field in spec:
        if field not in FIELDS:
            raise BenchError(f"tables.{name}.{field} is unknown{nearest(str(field), FIELDS)}")
    printed = _printed(spec)
    entries: dict[tuple[str, str], Entry] = {}
    for row in spec["rows"]:
        for column in spec["columns"]:
            if narrowed and not any(cell.matches(_where(row, column)) for cell in cells):
                continue
            paper = _paper_number(printed, spec, row, column)
            entries[row["name"], column["name"]] = _entry(name, spec, row, column, cells, paper)
    rows, columns = (list(dict.fromkeys(pair[i] for pair in entries)) for i in (0, 1))
    return Table(name, str(spec.get("title") or name), list(spec.get("notes") or []), rows, columns, entries)


def _where(row: Mapping[str, Any], column: Mapping[str, Any]) -> dict[str, Any]:
    return {**(row.get("where") or {}), **(column.get("where") or {})}


def _entry(
    name: str,
    spec: Mapping[str, Any],
    row: Mapping[str, Any],
    column: Mapping[str, Any],
    cells: Sequence[GridCell],
    paper: float | None,
) -> Entry:
    where = _where(row, column)
    metric, label = str(column["metric"]), f"tables.{name}: row {row['name']}, column {column['name']}"
    if metric not in METRICS:
        raise BenchError(f"{label}: metric {metric} is unknown{nearest(metric, METRICS)}")
    if metric in CLEAN_METRICS:
        cell = _only(cells, where, label, clean=True)
        wanted, used = cell.clean_key, [cell.clean_key]
    else:
        cell = _only(cells, where, label, clean=False)
        wanted, used = cell.key, [cell.key, cell.clean_key]
    reference = None
    if metric == "logit_diff":
        reference = _only(cells, spec.get("reference") or {"defense": "none"}, f"tables.{name}.reference", clean=True)
        used.append(reference.clean_key)
    store, n = Path(cell.config["store"]), key.samples(cell.config)["n"]
    if not all(Cell(store, each).complete(n) for each in used):
        return Entry(row["name"], column["name"], metric, None, paper, wanted, cell.command)
    at = column.get("at")
    if (
        at is not None
        and at != cell.config["threat"]["queries"]
        and not Cell(store, cell.key).description().get("anytime")
    ):
        raise BenchError(
            f"{label}: `at: {at}` needs an attack whose first queries don't depend on the budget; set attack.horizon"
        )
    frames = Frames(
        clean=_first(store, cell.clean_key, n),
        attack=None if metric in CLEAN_METRICS else _first(store, cell.key, n),
        reference=_first(store, reference.clean_key, n) if reference else None,
        at=at,
    )
    return Entry(row["name"], column["name"], metric, compute(metric, frames), paper, wanted, cell.command)


def _only(cells: Sequence[GridCell], where: Mapping[str, Any], label: str, clean: bool) -> GridCell:
    found = [cell for cell in cells if cell.matches(where)]
    different = {cell.clean_key if clean else cell.key for cell in found}
    if len(different) == 1:
        return found[0]
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


def _first(store: Path, key: str, n: int | None) -> pd.DataFrame:
    """Exactly the first n samples of the cell's order."""
    frame = Cell(store, key).frame()
    return frame if n is None else frame.loc[frame["position"] < n].reset_index(drop=True)


def _printed(spec: Mapping[str, Any]) -> pd.DataFrame | None:
    if not spec.get("printed"):
        return None
    path = Path(__file__).resolve().parents[1] / "results" / "papers" / str(spec["printed"])
    if not path.exists():
        raise BenchError(f"no printed numbers at {path}; correct `printed` or add the CSV")
    return pd.read_csv(path, dtype=str, keep_default_na=False)  # pandas would read `None` and `NA` as missing


def _paper_number(
    printed: pd.DataFrame | None, spec: Mapping[str, Any], row: Mapping[str, Any], column: Mapping[str, Any]
) -> float | None:
    """The one printed value that the row and the column describe; none where either has no `printed`."""
    if printed is None or row.get("printed") is None or column.get("printed") is None:
        return None
    where = {**(spec.get("select") or {}), **row["printed"], **column["printed"]}
    found: pd.DataFrame = printed
    for name, value in where.items():
        if name not in found.columns:
            raise BenchError(
                f"printed: {spec['printed']} has no column {name}{nearest(str(name), list(found.columns))}"
            )
        found = found.loc[found[name] == str(value)]
    if len(found) > 1:
        raise BenchError(f"printed: {where} matches {len(found)} rows of {spec['printed']}; make it more exact")
    return float(found["value"].iloc[0]) if len(found) else None
