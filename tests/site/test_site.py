"""The site of the published store: its numbers are the report's, its links lead somewhere, it asks no other host."""

import html
import json
import re
from pathlib import Path

import pytest

from bench.report.formats.comma_separated import comma_separated
from bench.report.formats.pieces import pieces
from bench.site import experiments, write
from bench.store.published import FOLDER

NAMES = ("digits_square", "gcm_ablation_small")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    write.site([FOLDER], out, NAMES)
    return out


def test_no_dead_end_and_no_other_host(built: Path) -> None:
    pages = list(built.glob("*.html"))
    assert {f"{name}.html" for name in NAMES} < {page.name for page in pages}
    for page in pages:
        for link in re.findall(r'(?:href|src)="([^"]*)"', page.read_text()):
            assert (built / link).is_file(), f"{page.name} -> {link}"


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_the_reports(built: Path, name: str) -> None:
    """Against the files that the reporter published, and against the page's own cells."""
    text = (built / f"{name}.html").read_text()
    tables = experiments.read(FOLDER, name).tables
    assert tables
    values = [html.unescape(each) for each in re.findall(r'class="value">([^<]*)<', text)]
    shown = [t.table.entries.get((row, c)) for t in tables for row in t.table.rows for c in t.columns]
    assert values == [pieces(entry).value for entry in shown if entry]
    for each in tables:
        published = (FOLDER / "tables" / f"{name}-{each.table.name}.csv").read_text()
        assert (built / f"{name}-{each.table.name}.csv").read_text() == published == comma_separated(each.table)


def test_what_remains_stands_first() -> None:
    assert experiments.ordered(["GCM", "flags", "worst case", "clean"]) == ["clean", "worst case", "flags", "GCM"]


def test_a_name_is_escaped_and_the_numbers_are_the_leaderboards(tmp_path: Path) -> None:
    number = {"value": 40.0, "low": 30.0, "high": 50.0, "n": 100}
    facts = {"stochastic": True, "coupled": False, "stateful": False, "differentiable": True, "clean_draws": [90.0],
             "logit_difference": 0.1, "parameters": 10, "macs": 10, "slowdown": 1.5}  # fmt: skip
    page = {"protocol": 1, "level": "quick", "date": "2026-01-01", "command": "c", "words": [], "threat": "linf 0.1",
            "subject": {"defense": "<script>x</script>", "model": "m", "dataset": "d"}, "clean": number, "gap": 35.0,
            "claimed": number | {"value": 75.0, "by": "pgd"}, "remains": number, "flags": [], "undecided": "no",
            "not_tried": [], "facts": facts, "steps": []}  # fmt: skip
    (tmp_path / "audits").mkdir()
    (tmp_path / "audits" / "a.json").write_text(json.dumps(page))
    write.site([tmp_path], tmp_path / "site")
    text = (tmp_path / "site" / "index.html").read_text()
    assert "<script>x" not in text and "&lt;script&gt;x" in text
    assert "claimed 75.0, remains 40.0 [30.0, 50.0]" in text
    assert "<script>x" not in (tmp_path / "site" / "audit-0.html").read_text()


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    write.site([tmp_path], tmp_path / "site")
    text = (tmp_path / "site" / "index.html").read_text()
    assert "No audit" in text and "No table" in text
