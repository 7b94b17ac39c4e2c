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
      - {name: flags, metric: flags, of: {white_box: [PGD], black_box: [Square]}}            # bench.report.masking_flags

`kind: matrix` is a table of a model set's transfer, source x target (transfer_matrix.py), whose `where` picks the cells.

`at` reads a smaller budget out of a run whose attack is anytime. A column's or row's `ambiguity` is named below the table where
the paper's number lies outside our interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config import identity
from bench.config.grid import GridCell
from bench.core.errors import BenchError, nearest
from bench.report import masking_flags, transfer_matrix
from bench.report import paper_numbers as papers
from bench.report.metrics import COSTS, METRICS, UNIONS, Frames, Value, compute, cost, mcnemar, union, within
from bench.report.select import Missing, attacked, clean_pass, first, needed, only
from bench.store.records import Cell

CLEAN_METRICS = {"clean_acc", "logit_diff", *COSTS}
# whose n are images of the cells' order, right or wrong
OF_IMAGES = {"clean_acc", "logit_diff", "robust_acc", "robust_acc_held", *UNIONS, *transfer_matrix.METRICS}
KNOWN = [*METRICS, *COSTS, *UNIONS, *transfer_matrix.METRICS, "mcnemar", "flags"]
FIELDS = {"title", "printed", "select", "reference", "rows", "columns", "notes", "kind", "where", "source"}


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
    apart: bool = False  # of fewer images than the rest of the table

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
    if spec.get("kind") is not None:
        configs = [cell.config for cell in cells if cell.matches(spec.get("where") or {})]
        spec = transfer_matrix.spelled_out(name, spec, configs) if configs or not narrowed else {**spec, "rows": []}
    printed = papers.read(spec)
    entries: dict[tuple[str, str], Entry] = {}
    for row in spec["rows"]:
        for column in spec["columns"]:
            if column["name"] in (row.get("without") or []):
                continue
            if narrowed and not _present(row, column, spec, cells):
                continue
            try:
                paper = papers.number(printed, spec, row, column)
                found = _entry(name, spec, row, column, cells, paper)
            except Missing as missing:
                found = Entry(row["name"], column["name"], column["metric"], None, paper, missing.key, missing.command)
            notes = [str(each["ambiguity"]) for each in (column, row) if each.get("ambiguity")]
            entries[row["name"], column["name"]] = replace(found, ambiguity="; ".join(notes))
    counts = {place: entry.ours.n for place, entry in entries.items() if entry.ours and entry.metric in OF_IMAGES}
    for place, n in counts.items():
        entries[place] = replace(entries[place], apart=n < max(counts.values()))
    rows, columns = (list(dict.fromkeys(pair[i] for pair in entries)) for i in (0, 1))
    notes = [*(spec.get("notes") or []), *transfer_matrix.notes(spec, rows, columns, entries)]
    return Table(name, str(spec.get("title") or name), notes, rows, columns, entries)


def _present(
    row: Mapping[str, Any], column: Mapping[str, Any], spec: Mapping[str, Any], cells: Sequence[GridCell]
) -> bool:
    """Did the command line leave the cells of this entry in the grid?"""
    if column["metric"] in UNIONS or column["metric"] == "flags":
        without = row.get("without") or []
        named = column["of"] if column["metric"] in UNIONS else _leaves(column["of"])
        parts = [each for each in spec["columns"] if each["name"] in named and each["name"] not in without]
        return all(_present(row, each, spec, cells) for each in parts)
    where = _where(row, column)
    wanted = [where, {**where, **column["against"]}] if "against" in column else [where]
    if column["metric"] == "logit_diff":
        wanted.append(spec.get("reference") or {"defense": "none"})
    of_set = (
        [cell.config for cell in cells if cell.matches(where)] if column["metric"] in transfer_matrix.METRICS else []
    )
    if of_set:
        lines = transfer_matrix.places(column["metric"], of_set, spec.get("source"), row["name"])
        wanted = [where | place for line in lines for place in line]
    return all(any(cell.matches(where) for cell in cells) for where in wanted)


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
    if metric == "flags":
        return _flags(name, spec, row, column, cells)
    if metric in transfer_matrix.METRICS:
        return _of_set(spec, row, column, cells, label, paper)
    cell = only(cells, _where(row, column), label, clean=metric in CLEAN_METRICS)
    store = Path(cell.config["store"])
    if metric in COSTS:
        told = needed(cell, cell.clean_key, cell.clean_key).description().get("cost")
        if told is None:
            raise BenchError(
                f"{label}: cell {cell.clean_key} was made before costs were measured; move it away and rerun"
            )
        ours, wanted = cost(metric, told), cell.clean_key
    elif metric == "mcnemar":
        other = only(cells, {**_where(row, column), **column["against"]}, f"{label}, against", clean=False)
        both = [_cut(attacked(each, column, label), column) for each in (cell, other)]
        ours, wanted = mcnemar(both[0], both[1]), cell.key
    else:
        clean = metric in CLEAN_METRICS
        reference, wanted = None, cell.clean_key if clean else cell.key
        if metric == "logit_diff":
            where = spec.get("reference") or {"defense": "none"}
            reference = only(cells, where, f"tables.{name}.reference", clean=True)
        n = identity.samples(cell.config)["n"]
        attack = None if clean else attacked(cell, column, label)
        needed(cell, cell.clean_key, wanted)
        ours = compute(
            metric,
            Frames(
                clean=first(store, cell.clean_key, n),
                attack=attack,
                reference=None if reference is None else clean_pass(reference, n),
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
    if not used:
        raise BenchError(f"{label}: the row is `without` every column of `of`; put this one there, too")
    found = [(only(cells, _where(row, each), label, clean=False), each) for each in used]
    ours = union(column["metric"], [(attacked(cell, each, label), each.get("at")) for cell, each in found])
    return Entry(row["name"], column["name"], column["metric"], ours, None, found[0][0].key, found[0][0].command)


def _flags(
    name: str, spec: Mapping[str, Any], row: Mapping[str, Any], column: Mapping[str, Any], cells: Sequence[GridCell]
) -> Entry:
    """Signs of masked gradients among the row's cells."""
    label, without = f"tables.{name}: row {row['name']}, column {column['name']}", set(row.get("without") or [])
    columns = {each["name"]: each for each in spec["columns"]}
    if unknown := [each for each in _leaves(column["of"]) if each not in columns]:
        raise BenchError(f"{label}: `of` names no column {unknown[0]}{nearest(str(unknown[0]), list(columns))}")
    used = _without(column["of"], without)
    if not _leaves(used):
        raise BenchError(f"{label}: the row is `without` every column of `of`; put this one there, too")
    frames: dict[str, pd.DataFrame] = {}
    for each in _leaves(used):
        cell = only(cells, _where(row, columns[each]), label, clean=False)
        frames[each] = _cut(attacked(cell, columns[each], label), columns[each])
    whole = only(cells, _where(row, columns[_leaves(used)[0]]), label, clean=False)
    ours = masking_flags.flags(used, lambda each: frames[each])
    return Entry(row["name"], column["name"], "flags", ours, None, whole.key, whole.command)


def _cut(frame: pd.DataFrame, column: Mapping[str, Any]) -> pd.DataFrame:
    """The records as of the column's `at`."""
    return frame.assign(fooled=within(frame, column.get("at")))


def _leaves(node: Any) -> list[str]:
    if isinstance(node, Mapping):
        return [leaf for value in node.values() for leaf in _leaves(value)]
    return [leaf for value in node for leaf in _leaves(value)] if isinstance(node, list) else [str(node)]


def _without(node: Any, names: set[str]) -> Any:
    if isinstance(node, Mapping):
        return {key: _without(value, names) for key, value in node.items()}
    if isinstance(node, list):
        return [_without(each, names) for each in node if isinstance(each, list) or each not in names]
    return node


def _of_set(
    spec: Mapping[str, Any],
    row: Mapping[str, Any],
    column: Mapping[str, Any],
    cells: Sequence[GridCell],
    label: str,
    paper: float | None,
) -> Entry:
    """A number of a whole set: from the cells of all its members, and of all sources where the metric is of pairs."""
    where, metric = _where(row, column), str(column["metric"])
    clean, configs = metric in transfer_matrix.CLEAN, [cell.config for cell in cells if cell.matches(where)]

    def frame(cell: GridCell) -> pd.DataFrame:
        return clean_pass(cell, identity.samples(cell.config)["n"]) if clean else attacked(cell, column, label)

    places = transfer_matrix.places(metric, configs, spec.get("source"), label)
    found = [[only(cells, where | place, label, clean) for place in line] for line in places]
    ours = transfer_matrix.value(metric, [[frame(cell) for cell in line] for line in found], label)
    one = found[0][0]
    return Entry(row["name"], column["name"], metric, ours, paper, one.clean_key if clean else one.key, one.command)
