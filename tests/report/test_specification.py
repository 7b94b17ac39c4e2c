"""Where an experiment's tables and figures are described, and what such a description may say."""

from pathlib import Path

import pytest

from bench.config import grid
from bench.core.errors import BenchError
from bench.report import reporter
from bench.report.specification import described

EXPERIMENTS = {path.stem for path in (grid.CONF / "experiment").glob("*.yaml")}


def test_every_file_of_tables_belongs_to_an_experiment_and_has_no_long_line() -> None:
    files = sorted((grid.CONF / "tables").glob("*.yaml"))
    assert {path.stem for path in files} <= EXPERIMENTS
    for path in files:
        assert max(map(len, path.read_text().splitlines())) <= 130, path


def test_tables_stand_in_a_file_of_their_own_or_in_the_experiment_but_not_in_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, parts = described(["+experiment=digits_square"])
    assert name == "digits_square" and list(parts["tables"]) == ["square"]
    assert described([]) == ("cell", {})
    experiment = tmp_path / "experiment" / "mine.yaml"
    experiment.parent.mkdir()
    experiment.write_text("# @package _global_\ntables: {t: {title: Mine}}\n")
    for source in grid.CONF.iterdir():
        if source.name not in ("experiment", "tables"):
            (tmp_path / source.name).symlink_to(source)
    monkeypatch.setattr(grid, "CONF", tmp_path)
    assert described(["+experiment=mine"]) == ("mine", {"tables": {"t": {"title": "Mine"}}})
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "mine.yaml").write_text("tables: {u: {}}\n")
    with pytest.raises(BenchError, match=r"has `tables` of its own and conf/tables/mine\.yaml; keep one"):
        described(["+experiment=mine"])
    (tmp_path / "experiment" / "yours.yaml").write_text("# @package _global_\n")
    for content, said in (
        ("tabels: {u: {}}", "tabels is unknown; did you mean 'tables'"),
        ("tables: {u: [}", "can't read"),
    ):
        (tmp_path / "tables" / "yours.yaml").write_text(content)
        with pytest.raises(BenchError, match=said):
            described(["+experiment=yours"])


def test_an_experiments_specification_has_its_figures() -> None:
    spec = reporter.specification(["+experiment=unig_digits"])
    assert set(spec["figures"]) == {"fig1c", "fig2b"} and not spec["changed"]
