"""A table as LaTeX (booktabs). Imports no torch."""

import re
from collections.abc import Iterator

from bench.report.formats.pieces import PAPER, Pieces, pieces
from bench.report.table import Table

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
