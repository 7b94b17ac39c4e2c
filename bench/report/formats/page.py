"""A table as one self-contained HTML page. Imports no torch."""

import html

from bench.report.formats.pieces import pieces, printed
from bench.report.table import Entry, Table

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid; }
th, td { padding: .3em .7em; text-align: right; vertical-align: top; }
thead th { border-bottom: 1px solid; }
tr > :first-child { text-align: left; white-space: nowrap; }
td a { color: inherit; }
small { display: block; color: #666; white-space: nowrap; }
code { overflow-wrap: anywhere; }
"""


def page(table: Table, notes: list[str]) -> str:
    title = html.escape(table.title)
    head = "".join(f"<th>{html.escape(column)}</th>" for column in ["", *table.columns])
    body = [
        f"<tr><th>{html.escape(row)}</th>"
        + "".join(f"<td>{_html_cell(table.entries.get((row, column)))}</td>" for column in table.columns)
        + "</tr>"
        for row in table.rows
    ]
    listed = "\n".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>",
            f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>",
            *body,
            f"</tbody>\n</table>\n<ul>\n{listed}\n</ul>\n</body>\n</html>\n",
        ]
    )


def _html_cell(entry: Entry | None) -> str:
    if entry is None:
        return ""
    p = pieces(entry)
    paper = f"<small>{html.escape(printed(p))}</small>" if p.paper else ""
    if entry.ours is None:  # the command opens on a click: some tables lack many cells
        return f"<details><summary>{p.value}</summary><code>{html.escape(entry.command)}</code></details>{paper}"
    span = f"<small>{html.escape(p.span)}</small>" if p.span else ""
    return f'<a href="../cells/{html.escape(entry.key)}/cell.yaml">{html.escape(p.value)}</a>{span}{paper}'
