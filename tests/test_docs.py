"""The documentation builds without a warning, its pages are there, and it asks no other host."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.site.glossary import WORDS
from bench.store.dictionary import COLUMNS

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
GENERATED = {"index.md", "audit.md", "glossary.md", "columns.md", "experiments.md", "api.md"}


def test_every_page_stands_in_the_navigation_once_and_no_entry_is_without_a_page() -> None:
    named = re.findall(r"[\w]+\.md", CONFIG.read_text().split("\nnav:")[1])
    assert sorted(named) == sorted({*GENERATED, *(path.name for path in (ROOT / "docs").glob("*.md"))})


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="mkdocs isn't installed: pip install -e '.[docs]'"
)
def test_it_builds_strictly_with_api_pages_and_a_glossary(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", str(CONFIG), "-d", str(tmp_path)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    pages = {path.name: path.read_text() for path in tmp_path.glob("*.html")}
    assert {name.replace(".md", ".html") for name in GENERATED} <= pages.keys()
    for name in (
        "bench.api.evaluate.evaluate",
        "defenses.base.Defense",
        "attacks.base.QueryAttack",
        "bench.core.rng.Draw",
    ):
        assert f'id="{name}"' in pages["api.html"], name
    assert all(word.partition(",")[0] in pages["glossary.html"] for word in WORDS)
    assert all(name in pages["columns.html"] for name in COLUMNS)
    assert "leaderboard.png" in pages["index.html"] and (tmp_path / "leaderboard.png").stat().st_size > 1000
    for name, text in pages.items():
        asked = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', text)
        assert [each for each in asked if 'rel="canonical"' not in each] == [], name
