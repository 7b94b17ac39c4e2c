"""Where an experiment's tables and figures are described, and what such a description may say."""

from pathlib import Path
from typing import Any

import pytest

from bench.config import grid, places
from bench.core.errors import BenchError
from bench.report import specification
from bench.report.specification import described
from bench.report.table_specs import TableSpec

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
    monkeypatch.setattr(places, "CONF", tmp_path)
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


def test_an_experiments_specification_is_typed() -> None:
    spec = specification.read(["+experiment=unig_digits"])
    assert set(spec.figures) == {"fig1c", "fig2b"} and spec.whole
    table = spec.tables["attacks"]
    assert isinstance(table, TableSpec) and table.reference == {"recipe": "standard_digits", "defense": "none"}
    assert not specification.read(["+experiment=unig_digits", "samples=20"]).whole
    assert specification.read(["+experiment=unig_digits", "defense=rnd"]).narrowed


SQUARE = {"name": "Square", "metric": "robust_acc", "where": {"attack": "square"}, "at": 100}
TABLE = {"title": "T", "rows": [{"name": "a", "without": ["Square"]}], "columns": [SQUARE]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colums": []}, r"tables\.t\.colums is unknown; did you mean 'columns'"),
        ({"rows": [{"nane": "a"}]}, r"tables\.t\.rows\.0\.nane is unknown; did you mean 'name'"),
        ({"rows": [{"where": {}}]}, r"tables\.t\.rows\.0 lacks `name`"),
        ({"rows": [{"name": "a", "where": "rnd"}]}, r"rows\.'a'\.where=rnd must be a group of settings"),
        ({"rows": [{"name": "a", "without": ["Sqare"]}]}, "`without` Sqare, no column; did you mean 'Square'"),
        ({"rows": [{"name": "a"}, {"name": "a"}]}, "two rows are named a"),
        ({"columns": [{"name": "Square", "metric": "robust_acc", "att": 100}]}, "att is unknown; did you mean 'at'"),
        ({"columns": [{"name": "Square"}]}, r"columns\.'Square' lacks `metric`"),
        ({"columns": [SQUARE | {"metric": "robust_ac"}]}, "robust_ac is unknown; did you mean 'robust_acc'"),
        ({"columns": [SQUARE | {"at": "100"}]}, "at=100 must be a whole number"),
        ({"columns": [SQUARE | {"at": 0}]}, "at=0 must be at least 1"),
        ({"columns": [SQUARE | {"metric": "clean_acc"}]}, "metric clean_acc has no use for `at`; remove it"),
        ({"columns": [SQUARE, {"name": "w", "metric": "per_image_worst"}]}, "per_image_worst needs `of`"),
        (
            {"columns": [SQUARE, {"name": "w", "metric": "per_image_worst", "of": ["Sqare"]}]},
            "`of` names no column Sqare",
        ),
        ({"columns": [SQUARE, {"name": "f", "metric": "flags", "of": ["Square"]}]}, "is groups of columns"),
        (
            {"columns": [SQUARE, {"name": "f", "metric": "flags", "of": {"white_bx": ["Square"]}}]},
            r"columns\.'f'\.of\.white_bx is unknown; did you mean 'white_box'",
        ),
        ({"columns": [SQUARE, {"name": "f", "metric": "flags", "of": {"transfer": ["x"]}}]}, "`of` names no column x"),
        ({"columns": [SQUARE, {"name": "p", "metric": "mcnemar"}]}, "mcnemar needs `against`"),
        ({"kind": "matrx"}, r"tables\.t\.kind=matrx is unknown"),
    ],
)
def test_a_table_described_wrongly_is_one_line_with_what_is_right(changes: dict[str, Any], said: str) -> None:
    parsed = specification.parsed("mine", {"tables": {"t": TABLE}}).tables["t"]
    assert isinstance(parsed, TableSpec) and parsed.columns[0].at == 100
    with pytest.raises(BenchError, match=said) as caught:
        specification.parsed("mine", {"tables": {"t": TABLE | changes}})
    assert "\n" not in str(caught.value)
