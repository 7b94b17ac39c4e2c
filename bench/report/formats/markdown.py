"""A table as Markdown; every number links to the records it was computed from, relative to results/tables. Imports no torch."""

from tabulate import tabulate

from bench.report.formats.pieces import pieces, printed, text
from bench.report.table import Entry, Table


def markdown(table: Table, notes: list[str]) -> str:
    def cell(entry: Entry | None) -> str:
        if entry is None or entry.ours is None:  # nothing to link to
            return text(entry)
        p = pieces(entry)
        ours = f"{p.value} {p.span}".rstrip()
        beside = " ".join(part for part in (printed(p), entry.published) if part)
        return f"[{ours}](../cells/{entry.key}/) {beside}".rstrip()

    body = [[row, *(cell(table.entries.get((row, column))) for column in table.columns)] for row in table.rows]
    safe = [[each.replace("|", "\\|") for each in line] for line in [["", *table.columns], *body]]
    grid = tabulate(safe[1:], headers=safe[0], tablefmt="github", disable_numparse=True)
    return "\n".join([f"# {table.title}", "", grid, "", *(f"- {note}" for note in notes), ""])
