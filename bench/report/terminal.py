"""A table in the terminal. Imports no torch."""

import csv
import io
import json
import os
import sys

from rich.console import Console
from rich.table import Table as Grid

from bench.report.formats.comma_separated import comma_separated
from bench.report.formats.pieces import text
from bench.report.table import Table

WIDTH = 100  # where nobody looks
EDGES = 3  # of a column: a border and a blank at each side


def show(table: Table, notes: list[str]) -> None:
    """As wide as the terminal, or as COLUMNS says. What is wider comes in blocks of columns: no number is ever cut."""
    console = Console(width=width())
    for nth, columns in enumerate(blocks(table, console.width)):
        title = table.title if nth == 0 else f"{table.title} (continued)"
        shown = Grid(title=title, title_justify="left", caption_justify="left")
        shown.add_column("", no_wrap=True)
        for column in columns:
            shown.add_column(column, justify="right", min_width=_needed(table, column))
        for row in table.rows:
            entries = (table.entries.get((row, column)) for column in columns)
            shown.add_row(row, *(text(entry, gap_between="\n").replace("[", "\\[") for entry in entries))
        console.print(shown, markup=True, highlight=False)
    for note in notes:
        console.print(f"  {note}", markup=False, highlight=False)


def width() -> int | None:
    """None: the terminal's own."""
    if os.environ.get("COLUMNS", "").isdigit():
        return int(os.environ["COLUMNS"])
    return None if sys.stdout.isatty() else WIDTH


def blocks(table: Table, room: int) -> list[list[str]]:
    """The columns, as many side by side as `room` characters hold beside the rows' names, and at least one."""
    names = max((len(row) for row in table.rows), default=0) + EDGES + 1
    found, used = list[list[str]](), room
    for column in table.columns:
        needed = _needed(table, column) + EDGES
        if not found or used + needed > room:
            found.append([])
            used = names
        found[-1].append(column)
        used += needed
    return found


def _needed(table: Table, column: str) -> int:
    """Characters: its longest line, or the longest word of its name."""
    lines = [line for row in table.rows for line in text(table.entries.get((row, column)), "\n").splitlines()]
    return max(map(len, [*lines, *column.split(), ""]))


def show_json(name: str, table: Table) -> None:
    """One object an entry and line: what the CSV has, numbers as numbers, what is missing as null."""
    for entry in csv.DictReader(io.StringIO(comma_separated(table))):
        print(json.dumps({"table": name} | {key: _value(value) for key, value in entry.items()}))


def _value(text: str) -> object:
    if text in ("", "nan"):
        return None
    if text in ("True", "False"):
        return text == "True"
    try:
        return float(text)
    except ValueError:
        return text
