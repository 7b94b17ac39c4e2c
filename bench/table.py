"""A table's YAML + the grid's cells + the store -> entries: ours with n and interval, the paper's number beside it.

tables:
  table1:
    title: ...
    printed: unig_table1.csv                    # below results/papers; optional
    select: {dataset: CIFAR10}                  # its rows that belong to this table
    reference: {defense: none}                  # logit_diff's undefended net
    rows:    [{name: UniG, where: {defense: unig}, printed: {defense: UniG}, without: [columns that it has not]}, ...]
    columns:
      - {name: Square-100, metric: robust_acc, where: {attack: square, threat.queries: 100}, printed: {...}, at: 100}
      - {name: worst, metric: worst, of: [Square-100, RayS]}             # per-image union over cells of the row
      - {name: "against noise", metric: mcnemar, where: {...}, against: {defense: unig_noise}}

`at` reads a smaller budget out of a run whose attack is anytime. A column's or row's `ambiguity` is named below the table where
the paper's number lies outside our interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench import key
from bench.errors import BenchError, nearest
from bench.grid import GridCell
from bench.metrics import COSTS, METRICS, UNIONS, Frames, Value, compute, cost, mcnemar, union
from bench.store import Cell

CLEAN_METRICS = {"clean_acc", "logit_diff", *COSTS}
KNOWN = [*METRICS, *COSTS, *UNIONS, "mcnemar"]
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
    ambiguity: str = ""  # what the paper leaves open that may explain a difference

    @property
    def difference(self) -> float | None:
        return None if self.ours is None or self.printed is None else self.ours.value - self.printed

    @property
    def outside(self) -> bool:
        """The paper's number lies outside our interval."""
        if self.ours is None or self.printed is None or math.isnan(self.ours.low):
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
            if column["name"] in (row.get("without") or []):
                continue
            if narrowed and not _present(row, column, spec, cells):
                continue
            try:
                paper = _paper_number(printed, spec, row, column)
                found = _entry(name, spec, row, column, cells, paper)
            except _Missing as missing:
                found = Entry(row["name"], column["name"], column["metric"], None, paper, missing.key, missing.command)
            notes = [str(each["ambiguity"]) for each in (column, row) if each.get("ambiguity")]
            entries[row["name"], column["name"]] = replace(found, ambiguity="; ".join(notes))
    rows, columns = (list(dict.fromkeys(pair[i] for pair in entries)) for i in (0, 1))
    return Table(name, str(spec.get("title") or name), list(spec.get("notes") or []), rows, columns, entries)


def _present(
    row: Mapping[str, Any], column: Mapping[str, Any], spec: Mapping[str, Any], cells: Sequence[GridCell]
) -> bool:
    """Did the command line leave the cells of this entry in the grid?"""
    if column["metric"] in UNIONS:
        without = row.get("without") or []
        parts = [each for each in spec["columns"] if each["name"] in column["of"] and each["name"] not in without]
        return all(_present(row, each, spec, cells) for each in parts)
    against = [{**_where(row, column), **column["against"]}] if "against" in column else []
    return all(any(cell.matches(where) for cell in cells) for where in [_where(row, column), *against])


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
    metric, label = str(column["metric"]), f"tables.{name}: row {row['name']}, column {column['name']}"
    if metric not in KNOWN:
        raise BenchError(f"{label}: metric {metric} is unknown{nearest(metric, KNOWN)}")
    if metric in UNIONS:
        return _union(name, spec, row, column, cells)
    cell = _only(cells, _where(row, column), label, clean=metric in CLEAN_METRICS)
    store = Path(cell.config["store"])
    if metric in COSTS:
        told = _needed(cell, cell.clean_key, cell.clean_key).description().get("cost")
        if told is None:
            raise BenchError(
                f"{label}: cell {cell.clean_key} was made before costs were measured; move it away and rerun"
            )
        ours, wanted = cost(metric, told), cell.clean_key
    elif metric == "mcnemar":
        other = _only(cells, {**_where(row, column), **column["against"]}, f"{label}, against", clean=False)
        ours, wanted = mcnemar(_attack(cell, column, label), _attack(other, column, label)), cell.key
    else:
        clean = metric in CLEAN_METRICS
        reference, wanted = None, cell.clean_key if clean else cell.key
        if metric == "logit_diff":
            where = spec.get("reference") or {"defense": "none"}
            reference = _only(cells, where, f"tables.{name}.reference", clean=True)
        n = key.samples(cell.config)["n"]
        attack = None if clean else _attack(cell, column, label)
        _needed(cell, cell.clean_key, wanted)
        ours = compute(
            metric,
            Frames(
                clean=_first(store, cell.clean_key, n),
                attack=attack,
                reference=None if reference is None else _clean(reference, n),
                at=column.get("at"),
                all_clean=Cell(store, cell.clean_key).frame() if metric == "clean_x_survival" else None,
            ),
        )
    return Entry(row["name"], column["name"], metric, ours, paper, wanted, cell.command)


def _union(
    name: str, spec: Mapping[str, Any], row: Mapping[str, Any], column: Mapping[str, Any], cells: Sequence[GridCell]
) -> Entry:
    """The images of the row that no attack of `of` breaks."""
    label, without = f"tables.{name}: row {row['name']}, column {column['name']}", row.get("without") or []
    columns = {each["name"]: each for each in spec["columns"]}
    for each in column["of"]:
        if each not in columns:
            raise BenchError(f"{label}: `of` names no column {each}{nearest(str(each), list(columns))}")
    used = [columns[each] for each in column["of"] if each not in without]
    found = [(_only(cells, _where(row, each), label, clean=False), each) for each in used]
    ours = union(column["metric"], [(_attack(cell, each, label), each.get("at")) for cell, each in found])
    return Entry(row["name"], column["name"], column["metric"], ours, None, found[0][0].key, found[0][0].command)


class _Missing(Exception):
    def __init__(self, key: str, command: str) -> None:
        super().__init__()
        self.key, self.command = key, command


def _needed(cell: GridCell, wanted: str, linked: str) -> Cell:
    """The stored cell with key `wanted`; raises _Missing where it lacks samples."""
    stored = Cell(Path(cell.config["store"]), wanted)
    if not stored.complete(key.samples(cell.config)["n"]):
        raise _Missing(linked, cell.command)
    return stored


def _clean(cell: GridCell, n: int | None) -> pd.DataFrame:
    """The clean pass of another row's victim on as many samples."""
    stored = Cell(Path(cell.config["store"]), cell.clean_key)
    if not stored.complete(n):
        raise _Missing(cell.clean_key, cell.command)
    return _first(Path(cell.config["store"]), cell.clean_key, n)


def _attack(cell: GridCell, column: Mapping[str, Any], label: str) -> pd.DataFrame:
    stored = _needed(cell, cell.key, cell.key)
    _needed(cell, cell.clean_key, cell.key)
    at = column.get("at")
    if at is not None and at != cell.config["threat"]["queries"] and not stored.description().get("anytime"):
        raise BenchError(
            f"{label}: `at: {at}` needs an attack whose first queries don't depend on the budget; set attack.horizon"
        )
    if at is not None and at > cell.config["threat"]["queries"]:
        raise BenchError(f"{label}: `at: {at}` exceeds the budget that was run, {cell.config['threat']['queries']}")
    return _first(Path(cell.config["store"]), cell.key, key.samples(cell.config)["n"])


def _only(cells: Sequence[GridCell], where: Mapping[str, Any], label: str, clean: bool) -> GridCell:
    found = [cell for cell in cells if cell.matches(where)]
    different = {cell.clean_key if clean else cell.key for cell in found}
    if len(different) == 1:  # n is no part of a key: of cells that differ in it alone, the largest
        return max(found, key=lambda cell: key.samples(cell.config)["n"] or float("inf"))
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
    """The one printed value that the row and the column describe (`delta=1;*` is a beginning); none where either has no
    `printed`."""
    if printed is None or row.get("printed") is None or column.get("printed") is None:
        return None
    where = {**(spec.get("select") or {}), **row["printed"], **column["printed"]}
    found: pd.DataFrame = printed
    for name, value in where.items():
        if name not in found.columns:
            raise BenchError(
                f"printed: {spec['printed']} has no column {name}{nearest(str(name), list(found.columns))}"
            )
        pattern = str(value)
        same = found[name].str.startswith(pattern[:-1]) if pattern.endswith("*") else found[name] == pattern
        found = found.loc[same]
    if len(found) > 1:
        raise BenchError(f"printed: {where} matches {len(found)} rows of {spec['printed']}; make it more exact")
    return float(found["value"].iloc[0]) if len(found) else None
