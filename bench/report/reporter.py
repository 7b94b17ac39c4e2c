"""python -m bench.report +experiment=...: regenerates the experiment's tables and figures from stored results. Imports no torch.

Writes results/tables/<experiment>-<table>.md, .csv, .tex and .html, results/figures/<experiment>-<figure>.svg and .png, and
prints the tables.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from bench.config import grid
from bench.config.grid import GridCell
from bench.core.errors import BenchError
from bench.report.figures import figure_specs
from bench.report.formats import text, write
from bench.report.seeds import build_over
from bench.report.specification import described
from bench.report.table import OF_IMAGES, Table

OF_RIGHT = {"survival", "clean_x_survival"}  # whose n are the images that are right when clean


def specification(typed: Sequence[str]) -> dict[str, Any]:
    """{name, tables, figures, narrowed, changed} of what was typed; without an experiment, a table of the cells themselves."""
    name, parts = described(typed)
    told = {"narrowed": grid.narrowed(typed), "changed": grid.changed(typed)}
    return {"name": name, "tables": parts.get("tables"), "figures": parts.get("figures") or {}} | told


def show(cells: Sequence[GridCell], spec: Mapping[str, Any]) -> None:
    """Prints and writes every table of the experiment, and draws its figures."""
    store, tables = Path(cells[0].config["store"]), dict[str, Table]()
    whole = spec["tables"] and not (spec["narrowed"] or spec["changed"])  # nothing else may overwrite the experiment's
    for name, table in (spec["tables"] or {"cell": _plain(cells)}).items():
        tables[name] = build_over(name, table, cells, spec["narrowed"])
        if whole:
            write(store / "tables" / f"{spec['name']}-{name}", tables[name], _notes(tables[name]))
        if tables[name].rows or whole:  # a narrowed grid may leave nothing of a table
            _print(tables[name])
    for name, figure in (spec["figures"] if whole else {}).items():
        try:
            figure_specs.draw(name, figure, tables, store, store / "figures" / f"{spec['name']}-{name}")
        except BenchError as error:  # one figure's missing cell must not cost the others
            print(f"  not drawn: {error}")
    if spec["tables"] and not whole:
        print(
            "  not written: the command line changes the experiment; for tables of your own, write a YAML of your own"
        )


def _plain(cells: Sequence[GridCell]) -> dict[str, Any]:
    """A table for a grid that brings none: a row a cell, told apart by the groups and the axes in which cells differ."""
    names = ["dataset", "model", "recipe", "defense", "attack", "threat"]
    axes = sorted({o.partition("=")[0].lstrip("+") for cell in cells for o in cell.overrides} - {"experiment"})
    differing = [name for name in dict.fromkeys([*names, *axes]) if len({_shown(c, name) for c in cells}) > 1]
    shown = differing or ["defense", "attack"]
    rows = []
    for cell in {cell.key: cell for cell in cells}.values():
        where = {name: _shown(cell, name) for name in dict.fromkeys([*shown, "defense", "attack"])}
        rows.append({"name": ", ".join(f"{name}={where[name]}" for name in shown), "where": where})
    columns = [{"name": "clean acc", "metric": "clean_acc"}]
    if any(cell.key != cell.clean_key for cell in cells):
        columns += [
            {"name": metric.replace("_", " "), "metric": metric}
            for metric in ("robust_acc", "holds", "mean_queries_success", "median_queries_success")
        ]
    return {"title": "One row a cell", "rows": rows, "columns": columns}


def _shown(cell: GridCell, name: str) -> str:
    value: Any = cell.choices.get(name)
    if value is None:
        value = cell.config
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    return str(value)


def _notes(table: Table) -> list[str]:
    entries = list(table.entries.values())
    n = max((entry.ours.n for entry in entries if entry.ours and entry.metric in OF_IMAGES), default=0)
    images = f"n = {n} images" + (", or as given beside a number" if any(e.apart for e in entries) else "")
    right = sorted({entry.ours.n for entry in entries if entry.ours and entry.metric in OF_RIGHT})
    if right and not n:
        images = f"n = {' to '.join(map(str, dict.fromkeys((right[0], right[-1]))))} images, those right when clean"
    notes = [
        f"{images}; percent; [95% interval: Wilson for shares, normal for means].",
        "Robust accuracy: right when clean and not fooled at any query within the budget, out of all images (first hit).",
        "Queries: successes only.",
    ]
    if any(entry.printed is not None for entry in entries):
        notes.append("paper: the printed number, (our difference), * = it lies outside our interval.")
    if any(entry.metric in ("worst", "worst_held") for entry in entries):
        notes.append("worst: images that are right in every cell of the row and that no attack of the row breaks.")
    if any(entry.metric == "mcnemar" for entry in entries):
        notes.append("p (a : b): exact McNemar test on the same images; a are kept here alone, b by the control alone.")
    if any(entry.metric == "flags" for entry in entries):
        notes.append(
            "flags: signs of masked gradients among the row's cells (bench/report/masking_flags.py); the headline is `worst`."
        )
    if any(entry.metric == "survival" for entry in entries):
        notes.append("AR: of the images that are right when clean, those that stay right under attack.")
    for ambiguity in dict.fromkeys(entry.ambiguity for entry in entries if entry.outside and entry.ambiguity):
        places = [f"{e.row} / {e.column}" for e in entries if e.outside and e.ambiguity == ambiguity]
        notes.append(f"* may be due to: {ambiguity} ({', '.join(places)})")
    missing = list(dict.fromkeys(entry.command for entry in entries if entry.ours is None))
    return notes + table.notes + [f"– is missing; to fill it: {command}" for command in missing]


def _print(table: Table) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    shown = Grid(title=table.title, title_justify="left", caption_justify="left")
    shown.add_column("", no_wrap=True)
    for column in table.columns:
        shown.add_column(column, justify="right")
    for row in table.rows:
        entries = (table.entries.get((row, column)) for column in table.columns)
        shown.add_row(row, *(text(entry, gap_between="\n").replace("[", "\\[") for entry in entries))
    console.print(shown, markup=True, highlight=False)
    for note in _notes(table):
        console.print(f"  {note}", markup=False, highlight=False)


def main() -> None:
    try:
        typed = sys.argv[1:]
        if any(argument in ("-h", "--help") for argument in typed):
            print((__doc__ or "").strip())
            return
        show(grid.cells(typed), specification(typed))
    except BenchError as error:
        sys.exit(f"error: {error}")
