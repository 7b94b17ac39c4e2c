"""A table in the terminal. Imports no torch."""

import sys

from rich.console import Console
from rich.table import Table as Grid

from bench.report.formats.pieces import text
from bench.report.table import Table


def show(table: Table, notes: list[str]) -> None:
    """160 columns wide where nobody looks."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    shown = Grid(title=table.title, title_justify="left", caption_justify="left")
    shown.add_column("", no_wrap=True)
    for column in table.columns:
        shown.add_column(column, justify="right")
    for row in table.rows:
        entries = (table.entries.get((row, column)) for column in table.columns)
        shown.add_row(row, *(text(entry, gap_between="\n").replace("[", "\\[") for entry in entries))
    console.print(shown, markup=True, highlight=False)
    for note in notes:
        console.print(f"  {note}", markup=False, highlight=False)
