"""A table in four formats: what each says, escapes and links to."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from bench.core.errors import BenchError
from bench.report.formats.comma_separated import FIELDS
from bench.report.formats.latex import latex
from bench.report.formats.markdown import markdown
from bench.report.formats.page import page as html_page
from bench.report.formats.pieces import text
from bench.report.formats.write import write
from bench.report.table import Entry, Table
from bench.report.values import Value
from bench.store.published import FOLDER

ROWS, COLUMNS = ["AT & 50%", "f_b | <RND>", "[new]"], ["clean_acc", "logit diff"]
NOTES = ["n = 128 images; 95% <interval>.", "– is missing; to fill it: python -m bench 'a=b'"]


def entry(row: str, column: str, ours: Value | None, printed: float | None) -> Entry:
    metric = "logit_diff" if column == "logit diff" else "clean_acc"
    key = f"{ROWS.index(row)}{COLUMNS.index(column)}".ljust(16, "a")
    return Entry(row, column, metric, ours, printed, key, f"python -m bench defense='<{row}>'")


@pytest.fixture
def table() -> Table:
    nan = float("nan")
    cells = {
        ("AT & 50%", "clean_acc"): (Value(51.04, 128, 45.38, 56.61), 51.22),
        ("AT & 50%", "logit diff"): (Value(-1.5, 128, -1.75, -1.25), 7.0),
        ("f_b | <RND>", "clean_acc"): (None, 81.9),
        ("f_b | <RND>", "logit diff"): (Value(nan, 12, nan, nan), None),
        ("[new]", "clean_acc"): (Value(3.0, 1, nan, nan), None),  # and no entry at all for its logit diff
    }
    entries = {place: entry(*place, *numbers) for place, numbers in cells.items()}
    return Table("t", "Square: A & B, 5%", [], ROWS, COLUMNS, entries)


def test_text_of_every_kind_of_entry(table: Table) -> None:
    said = {place: text(each) for place, each in table.entries.items()}
    assert list(said.values()) == [
        "51.0 [45.4, 56.6] paper 51.22 (-0.2)",
        "-1.50 [-1.75, -1.25] paper 7 (-8.50)*",
        "– paper 81.9",
        "none of 12",
        "3.0",
    ]
    assert text(None) == ""
    first = table.entries["AT & 50%", "clean_acc"]
    assert text(first, gap_between="\n") == "51.0\n[45.4, 56.6]\npaper 51.22 (-0.2)"


def test_writes_four_files_beside_each_other(table: Table, tmp_path: Path) -> None:
    paths = write(tmp_path / "new" / "paper-fig1.5", table, NOTES)
    assert [path.name for path in paths] == [f"paper-fig1.5.{kind}" for kind in ("md", "csv", "tex", "html")]
    assert all(path.stat().st_size > 300 for path in paths)
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"can't write .*file/x\.md \(.*\); set store="):
        write(tmp_path / "file" / "x", table, NOTES)


def test_markdown_links_every_number_that_has_records(table: Table) -> None:
    lines = markdown(table, NOTES).splitlines()
    assert lines[0] == "# Square: A & B, 5%" and lines[-2:] == [f"- {note}" for note in NOTES]
    body = [line for line in lines if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in body}) == 1  # the | of a name is escaped
    first = table.entries["AT & 50%", "clean_acc"]
    assert f"[51.0 [45.4, 56.6]](../cells/{first.key}/) paper 51.22 (-0.2)" in body[2]
    missing = table.entries["f_b | <RND>", "clean_acc"]
    assert "– paper 81.9" in body[3] and missing.key not in "\n".join(lines)


def test_csv_reads_back_whole(table: Table, tmp_path: Path) -> None:
    path = write(tmp_path / "t", table, NOTES)[1]
    read = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(read.columns) == FIELDS and list(read["row"]) == [row for row, _ in table.entries]
    for line, each in zip(read.to_dict("records"), table.entries.values(), strict=True):
        assert (line["row"], line["column"], line["key"]) == (each.row, each.column, each.key)
        assert line["n"] == ("" if each.ours is None else str(each.ours.n))
        assert line["paper"] == ("" if each.printed is None else str(each.printed))
        if each.ours is not None:
            assert float(line["value"]) == pytest.approx(each.ours.value, nan_ok=True)
    assert list(read["unit"]) == ["percent", "logits", "percent", "logits", "percent"]
    assert list(read["outside"]) == ["False", "True", "", "", ""]


def columns(line: str) -> list[str]:
    assert line.endswith(r" \\")
    return [part.strip() for part in re.split(r"(?<!\\)&", line.removesuffix(r" \\"))]


def test_latex_is_balanced_and_escaped(table: Table) -> None:
    lines = latex(table, NOTES).splitlines()
    code = [line for line in lines if not line.startswith("%")]
    assert code[:2] == [r"\begin{tabular}{lrr}", r"\toprule"] and code[-2:] == [r"\bottomrule", r"\end{tabular}"]
    cells = [columns(line) for line in code[2:-2] if line != r"\midrule"]
    assert {len(line) for line in cells} == {3}
    assert cells[0] == ["", r"clean\_acc", "logit diff"]
    assert cells[1] == [
        r"AT \& 50\%", r"51.0 {\scriptsize [45.4, 56.6]}", r"$-$1.50 {\scriptsize [$-$1.75, $-$1.25]}",
    ]  # fmt: skip
    assert cells[2] == [
        r"\quad {\scriptsize paper}", r"{\scriptsize 51.22 ($-$0.2)}",
        r"{\scriptsize 7 ($-$8.50)\textsuperscript{*}}",
    ]  # fmt: skip
    assert cells[3] == [r"f\_b \textbar{} \textless{}RND\textgreater{}", "--", "none of 12"]
    assert cells[4][1:] == [r"{\scriptsize 81.9}", ""]
    assert cells[5] == ["{[}new{]}", "3.0", ""]  # a bare [ after \\ would be read as its argument
    plain = re.sub(r"\\[{}]", "", "\n".join(code))
    assert plain.count("{") == plain.count("}") and plain.count("$") % 2 == 0
    comments = "\n".join(line for line in lines if line.startswith("%"))
    assert all(f"cells/{each.key}" in comments for each in table.entries.values())


def test_latex_compiles(table: Table, tmp_path: Path) -> None:
    """The fixture's table, whose names hold every special letter, and all published ones, in one document."""
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex: apt-get install texlive-latex-base texlive-latex-recommended")
    letters = "[x] * # $ % & ~ _ ^ { } | \\ < > – — × ± ≤ ≥ ∞ † ‡ α δ ε σ"
    first = next(iter(table.entries.values()))
    odd = Table("odd", letters, [], [letters], [letters], {(letters, letters): first})
    texts = [latex(each, NOTES) for each in (table, odd)]
    texts += [path.read_text() for path in sorted((FOLDER / "tables").glob("*.tex"))]
    for i, each in enumerate(texts):
        (tmp_path / f"t{i}.tex").write_text(each)
    lines = [r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}"]
    lines += [rf"\begin{{table}}\input{{t{i}}}\end{{table}}\clearpage" for i in range(len(texts))]
    (tmp_path / "whole.tex").write_text("\n".join([*lines, r"\end{document}", ""]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "whole.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if line.startswith(("!", "l.")))
    assert len(texts) > 20 and f"({len(texts)} pages" in done.stdout and "Missing character" not in done.stdout


class Page(HTMLParser):
    """The text of each table cell, links with their text, code, and the tags still open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.links: list[tuple[str, str]] = []
        self.code: list[str] = []
        self.outside: list[str] = []  # what a browser would have to fetch

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.outside += [tag] if tag in ("script", "link", "img") else []
        self.rows += [[]] if tag == "tr" else []
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.links += [(str(dict(attrs)["href"]), "")] if tag == "a" else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open:
            return
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        if self.open[-1] == "a":
            self.links[-1] = (self.links[-1][0], data)
        if self.open[-1] == "code":
            self.code.append(data)


def test_html_is_one_whole_page_with_right_links(table: Table) -> None:
    page, html = Page(), html_page(table, NOTES)
    page.feed(html)
    page.close()
    assert page.open == [] and page.outside == []
    assert [row[0] for row in page.rows] == ["", *ROWS] and {len(row) for row in page.rows} == {3}
    assert page.links == [
        (f"../cells/{each.key}/cell.yaml", text(each).partition(" [")[0])
        for each in table.entries.values()
        if each.ours is not None
    ]
    assert page.code == ["python -m bench defense='<f_b | <RND>>'"]
    assert "paper 7 (-8.50)*" in page.rows[1][2] and "paper 81.9" in page.rows[2][1]
    assert "<li>n = 128 images; 95% &lt;interval&gt;.</li>" in html
