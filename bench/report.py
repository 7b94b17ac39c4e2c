"""python -m bench.report +experiment=...: regenerates the experiment's tables from stored results. Imports no torch.

Writes results/tables/<experiment>-<table>.md and .csv and prints the table.
"""

import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table as Grid
from tabulate import tabulate

from bench import grid
from bench.errors import BenchError
from bench.grid import GridCell
from bench.table import Entry, Table, build

UNITS = {"logit_diff": "logits", "mean_queries_success": "queries", "median_queries_success": "queries"}


def specification(typed: Sequence[str]) -> dict[str, Any]:
    """{name, tables, narrowed} of the experiment that was typed; without one, a table of the cells themselves."""
    config = grid.base(typed)
    name = next((o.partition("=")[2] for o in typed if o.lstrip("+").startswith("experiment=")), "cell")
    tables = OmegaConf.to_container(config.tables, resolve=True) if config.tables else None
    return {"name": name, "tables": tables, "narrowed": grid.narrowed(typed)}


def show(cells: Sequence[GridCell], spec: Mapping[str, Any]) -> None:
    """Prints and writes every table of the experiment."""
    for name, table in (spec["tables"] or {"cell": _plain(cells)}).items():
        built = build(name, table, cells, spec["narrowed"])
        folder = Path(cells[0].config["store"]) / "tables"
        if spec["tables"] and not spec["narrowed"]:  # a part of a table must not overwrite the whole
            _write(folder / f"{spec['name']}-{name}", built, cells)
        _print(built)


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
    if all(cell.key != cell.clean_key for cell in cells):
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


# --- how a table looks -----------------------------------------------------------------------------------------------


def text(entry: Entry | None, gap_between: str = " ") -> str:
    """`51.0 [45.4, 56.6] paper 51.22 (-0.2)`, with * where the paper's number lies outside our interval."""
    if entry is None:
        return ""
    paper = "" if entry.printed is None else f"{gap_between}paper {entry.printed:g}"
    if entry.ours is None:
        return f"–{paper}"
    ours = entry.ours
    if math.isnan(ours.value):
        return f"none of {ours.n}{paper}"
    digits = 2 if entry.metric == "logit_diff" else 1
    span = "" if math.isnan(ours.low) else f"{gap_between}[{ours.low:.{digits}f}, {ours.high:.{digits}f}]"
    gap = "" if entry.difference is None else f" ({entry.difference:+.{digits}f}){'*' if entry.outside else ''}"
    return f"{ours.value:.{digits}f}{span}{paper}{gap}"


def _notes(table: Table, cells: Sequence[GridCell]) -> list[str]:
    entries = list(table.entries.values())
    n = sorted(
        {entry.ours.n for entry in entries if entry.ours and entry.metric in ("clean_acc", "robust_acc", "logit_diff")}
    )
    notes = [
        f"n = {', '.join(map(str, n))} images; percent; [95% interval: Wilson for shares, normal for means].",
        "Robust accuracy: right when clean and not fooled at any query within the budget, out of all images (first hit).",
        "Queries: successes only.",
    ]
    if any(entry.printed is not None for entry in entries):
        notes.append("paper: the printed number, (our difference), * = it lies outside our interval.")
    missing = list(dict.fromkeys(entry.command for entry in entries if entry.ours is None))
    return notes + table.notes + [f"– is missing; to fill it: {command}" for command in missing]


def _write(stem: Path, table: Table, cells: Sequence[GridCell]) -> None:
    body = [[row, *(text(table.entries.get((row, column))) for column in table.columns)] for row in table.rows]
    notes = "\n".join(f"- {note}" for note in _notes(table, cells))
    keys = "\n".join(f"- {row} / {column}: `cells/{entry.key}`" for (row, column), entry in table.entries.items())
    markdown = tabulate(body, headers=["", *table.columns], tablefmt="github", disable_numparse=True)
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".md").write_text(f"# {table.title}\n\n{markdown}\n\n{notes}\n\nRecords:\n\n{keys}\n")
        with open(stem.with_suffix(".csv"), "w", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(
                [
                    "row",
                    "column",
                    "metric",
                    "unit",
                    "value",
                    "low",
                    "high",
                    "n",
                    "paper",
                    "difference",
                    "outside",
                    "key",
                ]
            )
            for entry in table.entries.values():
                ours = entry.ours
                numbers = [ours.value, ours.low, ours.high, ours.n] if ours else [""] * 4
                paper = ["" if v is None else v for v in (entry.printed, entry.difference)]
                outside = "" if entry.printed is None or ours is None else entry.outside
                out.writerow(
                    [
                        entry.row,
                        entry.column,
                        entry.metric,
                        UNITS.get(entry.metric, "percent"),
                        *numbers,
                        *paper,
                        outside,
                        entry.key,
                    ]
                )
    except OSError as error:
        raise BenchError(f"can't write {stem}.md ({error.strerror}); set store=<a folder you may write to>") from None


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
    for note in _notes(table, []):
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


if __name__ == "__main__":
    main()
