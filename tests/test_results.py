"""The committed tables are what the report builds from the committed records, to the letter; their figures can be drawn."""

from pathlib import Path

import pytest

from bench.config import grid
from bench.report import reporter, specification
from bench.store import packs
from scripts.unused import reported

STORE = Path(__file__).resolve().parents[1] / "results" / "published"


def lines(file: Path) -> list[str]:
    """Without the commands that fill what is missing: they repeat what was typed."""
    return [line for line in file.read_text().splitlines() if "to fill it:" not in line]


@pytest.mark.parametrize("experiment", reported(STORE))
def test_the_report_builds_the_committed_tables(
    experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cells").symlink_to(STORE / "cells")
    typed = [f"+experiment={experiment}", f"store={tmp_path}"]
    assert reporter.show(grid.cells(typed), specification.read(typed))
    assert "not drawn" not in capsys.readouterr().out
    built = sorted((tmp_path / "tables").glob("*.md"))
    assert {file.name for file in built} == {file.name for file in (STORE / "tables").glob(f"{experiment}-*.md")}
    for file in built:
        assert lines(file) == lines(STORE / "tables" / file.name), file.name


@pytest.mark.parametrize("path", packs.files(STORE), ids=lambda path: path.stem)
def test_published_cells_are_of_committed_code(path: Path) -> None:
    """Nobody else has the local changes that a commit does not name."""
    local = [key for key, about in packs.load(path).cells.items() if "local changes" in str(about.get("commit"))]
    assert not local, f"{path.name}: {len(local)} cells: {' '.join(local)}"
    placed = [
        key for key, about in packs.load(path).cells.items() if "store=" in about["command"] or "=/" in about["command"]
    ]
    assert not placed, f"{path.name}: commands name places of the machine that made them: {placed[0]}"


def test_experiments_that_share_a_cell_had_one_network_and_one_data_set() -> None:
    """Else a table would take its clean pass from one network and its attacks from another."""
    seen: dict[str, dict[tuple[str, str], list[str]]] = {}
    for path in packs.files(STORE):
        for key, about in packs.load(path).cells.items():
            seen.setdefault(key, {}).setdefault((about["weights"], about["data"]), []).append(path.stem)
    assert not {key: list(made.values()) for key, made in seen.items() if len(made) > 1}
