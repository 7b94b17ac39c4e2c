"""A Table as text: Markdown, CSV, LaTeX (booktabs) and one self-contained HTML page. Imports no torch.

Every number links to the records it was computed from, relative to results/tables.
"""

import csv
import html
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from bench.core.errors import BenchError
from bench.report.table import Entry, Table

UNITS = {
    "logit_diff": "logits", "mean_queries_success": "queries", "median_queries_success": "queries", "mcnemar": "p",
    "parameters": "million", "macs": "GMac",
}  # fmt: skip
FIELDS = ["row", "column", "metric", "unit", "value", "low", "high", "n", "paper", "difference", "outside", "key"]
PAPER = "paper"  # stands before every printed number


def write(stem: Path, table: Table, notes: list[str]) -> list[Path]:
    """<stem>.md, .csv, .tex and .html. Raises BenchError where the folder can't be written."""
    contents = {
        ".md": markdown(table, notes),
        ".csv": comma_separated(table),
        ".tex": latex(table, notes),
        ".html": page(table, notes),
    }
    return [
        save(stem.with_name(stem.name + ending), content.encode("utf-8")) for ending, content in contents.items()
    ]  # with_suffix would cut a name with a dot in it


def save(path: Path, content: bytes) -> Path:
    """Raises BenchError where the file can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise BenchError(f"can't write {path} ({error.strerror}); set store=<a folder you may write to>") from None
    return path


@dataclass(frozen=True)
class Pieces:
    """What an entry says, for each format to arrange; what is not known is empty."""

    value: str  # 51.0; – where the cell is missing. A footnote mark would belong behind it.
    span: str = ""  # [45.4, 56.6]
    paper: str = ""  # 51.22
    gap: str = ""  # (-0.2)
    outside: str = ""  # * where the paper's number lies outside our interval


def pieces(entry: Entry) -> Pieces:
    paper = "" if entry.printed is None else f"{entry.printed:g}"
    ours = entry.ours
    if ours is None:
        return Pieces("–", paper=paper)
    if math.isnan(ours.value):
        return Pieces(f"none of {ours.n}", paper=paper)
    digits = 2 if entry.metric == "logit_diff" else 1
    span = "" if math.isnan(ours.low) else f"[{ours.low:.{digits}f}, {ours.high:.{digits}f}]"
    gap = "" if entry.difference is None else f"({entry.difference:+.{digits}f})"
    of = f" (n={ours.n})" if entry.apart else ""
    return Pieces((ours.shown or f"{ours.value:.{digits}f}") + of, span, paper, gap, "*" if entry.outside else "")


def text(entry: Entry | None, gap_between: str = " ") -> str:
    """`51.0 [45.4, 56.6] paper 51.22 (-0.2)`, with * where the paper's number lies outside our interval."""
    if entry is None:
        return ""
    p = pieces(entry)
    return gap_between.join(part for part in (p.value, p.span, _printed(p)) if part)


def _printed(p: Pieces) -> str:
    return f"{PAPER} {p.paper} {p.gap}{p.outside}".rstrip() if p.paper else ""


# --- Markdown and CSV ------------------------------------------------------------------------------------------------


def markdown(table: Table, notes: list[str]) -> str:
    def cell(entry: Entry | None) -> str:
        if entry is None or entry.ours is None:  # nothing to link to
            return text(entry)
        p = pieces(entry)
        ours = f"{p.value} {p.span}".rstrip()
        return f"[{ours}](../cells/{entry.key}/) {_printed(p)}".rstrip()

    body = [[row, *(cell(table.entries.get((row, column))) for column in table.columns)] for row in table.rows]
    safe = [[each.replace("|", "\\|") for each in line] for line in [["", *table.columns], *body]]
    grid = tabulate(safe[1:], headers=safe[0], tablefmt="github", disable_numparse=True)
    return "\n".join([f"# {table.title}", "", grid, "", *(f"- {note}" for note in notes), ""])


def comma_separated(table: Table) -> str:
    """One line an entry, at full precision; a missing cell's numbers are empty."""
    whole = io.StringIO()
    out = csv.writer(whole, lineterminator="\n")
    out.writerow(FIELDS)
    for entry in table.entries.values():
        ours = entry.ours
        numbers = [ours.value, ours.low, ours.high, ours.n] if ours else [""] * 4
        paper = ["" if v is None else v for v in (entry.printed, entry.difference)]
        outside = "" if entry.printed is None or ours is None else entry.outside
        unit = UNITS.get(entry.metric, "percent")
        out.writerow([entry.row, entry.column, entry.metric, unit, *numbers, *paper, outside, entry.key])
    return whole.getvalue()


# --- LaTeX -----------------------------------------------------------------------------------------------------------

# The brackets: `\\` takes a [ or * that follows it for its own argument. pdflatex knows no Greek letters in text.
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}", "–": "--", "—": "---", "×": r"$\times$", "±": r"$\pm$",
    "≤": r"$\leq$", "≥": r"$\geq$", "∞": r"$\infty$", "†": r"$\dagger$", "‡": r"$\ddagger$",
    "α": r"$\alpha$", "δ": r"$\delta$", "ε": r"$\epsilon$", "σ": r"$\sigma$",
}  # fmt: skip


def escaped(words: str) -> str:
    """For LaTeX's text mode."""
    return "".join(LATEX.get(letter, letter) for letter in words)


def _minus(numbers: str) -> str:
    return re.sub(r"-(?=\d)", "$-$", numbers)  # text mode prints a hyphen


def latex(table: Table, notes: list[str]) -> str:
    r"""A tabular to \input between \begin{table} and \end{table}; needs booktabs. The paper's numbers stand in a line below
    ours; comments name each line's records, as \href would need one more package."""
    head = " & ".join(["", *map(escaped, table.columns)])
    comments = [f"% {' '.join(line.split())}" for line in (table.title, *notes, r"needs \usepackage{booktabs}")]
    begin = [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule", rf"{head} \\", r"\midrule"]
    body = [line for row in table.rows for line in _latex_lines(table, row)]
    return "\n".join([*comments, *begin, *body, r"\bottomrule", r"\end{tabular}", ""])


def _latex_lines(table: Table, row: str) -> Iterator[str]:
    entries = [table.entries.get((row, column)) for column in table.columns]
    shown = [None if entry is None else pieces(entry) for entry in entries]
    records = ", ".join(f"{entry.column}: cells/{entry.key}" for entry in entries if entry)
    yield f"% {' '.join(f'{row}: {records}'.split())}"
    ours = ["" if p is None else _latex_ours(p) for p in shown]
    yield rf"{escaped(row)} & {' & '.join(ours)} \\"
    if any(p and p.paper for p in shown):
        papers = [_latex_paper(p) if p and p.paper else "" for p in shown]
        yield rf"\quad {{\scriptsize {PAPER}}} & {' & '.join(papers)} \\"


def _latex_ours(p: Pieces) -> str:
    return _minus(escaped(p.value)) + (rf" {{\scriptsize {_minus(p.span)}}}" if p.span else "")


def _latex_paper(p: Pieces) -> str:
    mark = rf"\textsuperscript{{{p.outside}}}" if p.outside else ""
    return rf"{{\scriptsize {_minus(f'{p.paper} {p.gap}'.rstrip())}{mark}}}"


# --- HTML ------------------------------------------------------------------------------------------------------------

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
    paper = f"<small>{html.escape(_printed(p))}</small>" if p.paper else ""
    if entry.ours is None:  # the command opens on a click: some tables lack many cells
        return f"<details><summary>{p.value}</summary><code>{html.escape(entry.command)}</code></details>{paper}"
    span = f"<small>{html.escape(p.span)}</small>" if p.span else ""
    return f'<a href="../cells/{html.escape(entry.key)}/cell.yaml">{html.escape(p.value)}</a>{span}{paper}'
