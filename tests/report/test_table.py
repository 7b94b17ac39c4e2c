"""Metrics against scipy and slow loops; tables that refuse what they can't show; what a report prints and writes."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bench.config import grid
from bench.config.parse import parse
from bench.core.errors import BenchError
from bench.report import seeds, specification
from bench.report.figures.draw import draw
from bench.report.formats.pieces import text
from bench.report.metrics import attacked as metrics
from bench.report.metrics.clean import distances
from bench.report.metrics.rows import mcnemar, worst_case
from bench.report.paper_numbers import Printed
from bench.report.records import Attacked, CleanPass, Records
from bench.report.select import CellIndex
from bench.report.table import build
from bench.report.table_specs import Column, Row, TableSpec
from bench.report.values import Value, mean, median, share
from bench.run import cell
from scripts.unused import reported
from tests.support.reports import built, shown


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (480, 1000)])
def test_share_is_wilsons_interval(hits: int, n: int) -> None:
    theirs = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    ours = share(hits, n)
    assert ours.value == 100 * hits / n and ours.n == n
    assert (ours.low, ours.high) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-4)


def test_mean_and_median_intervals() -> None:
    values = np.random.default_rng(0).exponential(size=200)
    low, high = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert (mean(values).low, mean(values).high) == pytest.approx((low, high), rel=1e-5)
    covered = 0
    for seed in range(300):  # the median of an exponential is ln 2
        interval = median(np.random.default_rng(seed).exponential(size=80))
        covered += interval.low <= np.log(2) <= interval.high
    assert covered / 300 > 0.92
    assert np.isnan(mean(np.array([])).value)
    few = median(np.array([3.0, 1.0, 2.0]))
    assert few.value == 2.0 and np.isnan(few.low)  # no two of so few numbers hold it with 95%


def attacked(**columns: Any) -> Attacked:
    """Of as many images as the columns have; the last one is wrong when clean."""
    n = len(next(iter(columns.values())))
    return Attacked.of(
        pd.DataFrame({"sample": range(n), "position": range(n), "clean": [True] * (n - 1) + [False]} | columns)
    )


FOUND = attacked(
    fooled=[True, True, True, False, False, False],
    queries=[5, 50, 100, 100, 100, 0],
    re_evaluation_success=[1.0, 0.2, None, None, None, None],
)


def test_metrics_by_hand() -> None:
    assert metrics.robust_acc(FOUND).value == pytest.approx(200 / 6)
    assert metrics.robust_acc_re_evaluated(FOUND).value == pytest.approx(300 / 6)
    assert metrics.re_evaluation_success(FOUND).value == pytest.approx(220 / 3)
    assert metrics.mean_queries_success(FOUND).value == pytest.approx(155 / 3)
    assert metrics.survival(FOUND).value == pytest.approx(200 / 5) and metrics.survival(FOUND).n == 5
    early = FOUND.within(50)
    assert metrics.robust_acc(early).value == pytest.approx(300 / 6)
    assert metrics.robust_acc_re_evaluated(early).value == pytest.approx(
        400 / 6
    )  # the found image of 100 was not found yet
    whole = CleanPass.of(pd.DataFrame({"sample": range(10), "position": range(10), "clean": [True] * 8 + [False] * 2}))
    assert metrics.clean_times_survival(FOUND, whole).value == pytest.approx(0.8 * 40)
    far = distances(
        np.arange(3), np.zeros((3, 2), np.float32), np.array([2, 7, 0]), np.array([[3, 4], [1, 1], [6, 8.0]])
    )
    assert far.tolist() == [10, 5]  # of samples 0 and 2


def test_re_evaluation_counts_lucky_first_outputs_for_neither_side() -> None:
    """A white-box attack on a random victim: all found images are re-evaluated, those that did not fool at first, too."""
    attack = attacked(
        fooled=[True, True, False, False, False],
        queries=[np.nan] * 4 + [0],
        re_evaluation_success=[0.9, 0.2, 0.8, 0.1, None],
        margin=[-1.0, -1, 2, 2, None],
        l2=[1.0, 3, 0, 0, None],
    )
    assert metrics.robust_acc(attack).value == 40 and metrics.robust_acc_re_evaluated(attack).value == 40
    assert attack.robust_re_evaluated.tolist() == [False, True, False, True, False]
    assert metrics.median_distance("l2")(attack).value == 2.0  # of the examples found, not of what came back unmoved


def test_the_worst_case_is_over_the_images_that_all_attacks_met() -> None:
    few = attacked(fooled=[False, False, False, True, False, True], queries=[9] * 6).at(slice(1, 5))
    assert worst_case([FOUND, few], False).value == pytest.approx(100 / 4)  # of samples 1 to 4, the last alone
    assert worst_case([FOUND, few], True).value == pytest.approx(
        200 / 4
    )  # sample 1 fools in a fifth of its re-evaluations
    tested = mcnemar(FOUND, few)
    assert tested.n == 4 and tested.shown == "p 1 (1 : 2)"


RESULTS = Path(__file__).resolve().parents[2] / "results" / "published"
SPEC = {
    "title": "T",
    "rows": [{"name": "a", "where": {"defense": "none"}}, {"name": "b", "where": {"defense": "rnd"}}],
    "columns": [
        {"name": "clean", "metric": "clean_acc"},
        {"name": "q5", "metric": "robust_acc", "where": {"threat.queries": 5}},
    ],
}


@pytest.fixture
def cells(tmp_path: Path, artifacts: Path) -> list[grid.GridCell]:
    typed = [
        "defense=none,rnd",
        "threat.queries=5,9",
        "samples.n=30",
        f"store={tmp_path}",
        f"artifacts={artifacts}",
        "threads=1",
    ]
    return grid.cells(typed)


def test_missing_cells_are_dashes_with_their_command(
    cells: list[grid.GridCell], capsys: pytest.CaptureFixture[str]
) -> None:
    cell.run(cells[0].config)
    found = built(SPEC, cells)
    assert found.entries["a", "q5"].ours is not None and found.entries["b", "q5"].ours is None
    assert shown(cells, {"t": SPEC})
    printed = capsys.readouterr().out
    assert "–" in printed and "defense=rnd threat.queries=5" in printed.replace("\n", " ")
    store = Path(cells[0].config["store"])
    rows = list(csv.DictReader((store / "tables" / "mine-t.csv").open()))
    assert [row["n"] for row in rows] == ["30", "30", "", ""]
    assert rows[1]["key"] == cells[0].key and cells[0].key in (store / "tables" / "mine-t.md").read_text()


def test_a_damaged_cell_is_one_line_and_counts_as_missing(
    cells: list[grid.GridCell], capsys: pytest.CaptureFixture[str]
) -> None:
    for each in (cells[0], cells[2]):
        cell.run(each.config)
    (part,) = (Path(cells[2].config["store"]) / "cells" / cells[2].key).glob("part-*")
    part.write_bytes(b"PAR1" + bytes(200))
    assert not shown(cells, {"t": SPEC})
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"error: cell {cells[2].key} ")
    found = built(SPEC, cells)
    assert found.entries["a", "q5"].ours and found.entries["b", "clean"].ours and found.entries["b", "q5"].ours is None


def test_a_row_that_matches_two_cells_or_none_lists_the_candidates(cells: list[grid.GridCell]) -> None:
    column = {"name": "q", "metric": "robust_acc"}
    with pytest.raises(BenchError, match=r"matches 2 cells of the grid; candidates: \[\{'defense': 'none'"):
        built(SPEC | {"columns": [column]}, cells)
    with pytest.raises(BenchError, match="matches no cell"):
        built(SPEC | {"rows": [{"name": "c", "where": {"defense": "unig"}}]}, cells)
    assert built(SPEC | {"rows": [{"name": "c", "where": {"defense": "unig"}}]}, cells, narrowed=True).rows == []
    with pytest.raises(BenchError, match=r"tables\.t\.colums is unknown"):
        built(SPEC | {"colums": []}, cells)


def test_a_budget_below_the_cells_own_needs_an_anytime_attack(cells: list[grid.GridCell]) -> None:
    cell.run(cells[0].config)
    column = {"name": "q3", "metric": "robust_acc", "where": {"threat.queries": 5}, "at": 3}
    with pytest.raises(BenchError, match=r"set attack\.horizon"):
        built(SPEC | {"rows": SPEC["rows"][:1], "columns": [column]}, cells)


def test_the_papers_number_stands_beside_ours(cells: list[grid.GridCell]) -> None:
    cell.run(cells[0].config)
    spec = {
        "printed": "unig_table1.csv", "select": {"dataset": "CIFAR10"},
        "rows": [{"name": "a", "where": {"defense": "none"}, "printed": {"defense": "Vanilla"}}],
        "columns": [
            {"name": "clean", "metric": "clean_acc", "printed": {"metric": "clean_acc"}},
            {"name": "q5", "metric": "robust_acc", "where": {"threat.queries": 5},
             "printed": {"attack": "Square", "query_budget": 2500, "metric": "robust_acc"}},
        ],
    }  # fmt: skip
    entries = built(spec, cells).entries
    assert entries["a", "clean"].printed == 94.26 and entries["a", "q5"].printed == 0.46
    assert entries["a", "q5"].outside and "paper 0.46" in text(entries["a", "q5"]) and "*" in text(entries["a", "q5"])
    with pytest.raises(BenchError, match="matches 5 rows"):
        built(spec | {"columns": [{"name": "x", "metric": "clean_acc", "printed": {"query_budget": 100}}]}, cells)


# those with committed results are built from them in tests/test_results.py
UNREPORTED = {path.stem for path in (grid.CONF / "experiment").glob("*.yaml")} - set(reported(RESULTS))


@pytest.mark.parametrize("experiment", sorted(UNREPORTED))
def test_every_experiments_tables_and_figures_name_only_what_exists(experiment: str, tmp_path: Path) -> None:
    """Its cells, printed numbers, rows and columns; on an empty store every entry and figure is missing, no more."""
    typed = [f"+experiment={experiment}", "store=/nowhere"]
    spec, cells, tables = specification.read(typed), grid.cells(typed), {}
    assert len({each.key for each in cells}) >= 2
    for name, each in spec.tables.items():
        found = tables[name] = build(name, each, CellIndex(cells), Records())
        assert found.entries and all(entry.ours is None for entry in found.entries.values())
        wanted = [row for row in each.rows if row.printed] if isinstance(each, TableSpec) and each.printed else []
        if wanted:
            assert sum(entry.printed is not None for entry in found.entries.values()) >= len(wanted)
    for name, each in spec.figures.items():
        with pytest.raises(BenchError, match="is missing"):
            draw(name, each, tables, tmp_path, Records(), tmp_path / name)


def test_only_run_time_knobs_may_stand_beside_an_experiment_whose_tables_are_written(
    cells: list[grid.GridCell], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not grid.changed(["+experiment=digits_square", "threads=1", "store=a", "hydra/launcher=basic"])
    assert grid.changed(["+experiment=digits_square", "samples=20"])
    shown(cells, {"t": SPEC}, changed=True)
    assert "not written" in capsys.readouterr().out and not (Path(cells[0].config["store"]) / "tables").exists()


def test_a_narrowed_table_leaves_out_distances_to_a_missing_reference(cells: list[grid.GridCell]) -> None:
    """As the command in a cell's own cell.yaml narrows its experiment."""
    columns = [{"name": "clean", "metric": "clean_acc"}, {"name": "far", "metric": "logit_diff"}]
    spec = {"rows": [{"name": "b", "where": {"defense": "rnd"}}], "columns": columns}
    rnd = [each for each in cells if each.choices["defense"] == "rnd"]
    assert set(built(spec, rnd, narrowed=True).entries) == {("b", "clean")}
    assert set(built(spec, cells, narrowed=True).entries) == {("b", "clean"), ("b", "far")}


def test_a_number_of_fewer_images_says_so(cells: list[grid.GridCell]) -> None:
    cell.run(cells[0].config)
    row = [{"name": "a", "where": {"defense": "none", "threat.queries": 5}}]
    ten = cells[0].spec.samples.model_copy(update={"n": 10})
    small = [replace(each, spec=each.spec.replace(samples=ten)) for each in cells]
    column = {"name": "q", "metric": "robust_acc", "where": {"threat.queries": 5}}
    assert not built({"rows": row, "columns": [column]}, small).entries["a", "q"].apart
    both = [replace(each, choices=each.choices | {"few": str(few)}) for few in (0, 1) for each in ([cells, small][few])]
    columns = [{**column, "name": f"few {few}", "where": {"threat.queries": 5, "few": few}} for few in (0, 1)]
    found = built({"rows": row, "columns": columns}, both)
    assert found.entries["a", "few 1"].apart and "(n=10)" in text(found.entries["a", "few 1"])
    assert not found.entries["a", "few 0"].apart and "(n=" not in text(found.entries["a", "few 0"])


def test_a_misspelt_printed_name_is_an_error_and_a_missing_combination_none() -> None:
    read = Printed.read("unig_table1.csv")
    table = TableSpec(rows=(), columns=(), select={"dataset": "CIFAR10"})

    def number(defense: str, metric: str) -> float | None:
        row = Row(name="r", printed={"defense": defense})
        return read and read.number(
            table, row, parse(Column, {"name": "c", "metric": metric, "printed": {"metric": metric}}, "c")
        )

    with pytest.raises(BenchError, match=r"has no defense=Vanila; did you mean 'Vanilla'\?"):
        number("Vanila", "clean_acc")
    assert number("Vanilla", "clean_acc") == 94.26
    assert number("Vanilla", "logit_diff_l2") is None


def test_seeds_become_a_mean_and_its_deviation(tmp_path: Path, artifacts: Path) -> None:
    typed = ["defense=rnd,none", "threat.queries=20", "samples.n=40", f"store={tmp_path}", f"artifacts={artifacts}"]
    typed += ["threads=1", "seed=0,1,2", "recipe.epochs=2"]
    cells = grid.cells(typed)
    columns = [
        {"name": "clean", "metric": "clean_acc"},
        {"name": "q", "metric": "robust_acc"},
        {"name": "size", "metric": "parameters"},
    ]
    spec = {"rows": [{"name": "b", "where": {"defense": "rnd"}}], "columns": columns}
    rnd = [each for each in cells if each.choices["defense"] == "rnd"]
    for each in rnd[:2]:
        cell.run(each.config)
    missing = built(spec, cells).entries["b", "q"]
    assert missing.ours is None and "seed=2" in missing.command
    cell.run(rnd[2].config)
    table = built(spec, cells)
    found = [built(spec, [each]).entries["b", "q"].ours for each in rnd]
    numbers = [value.value for value in found if value]
    ours = table.entries["b", "q"].ours
    assert ours and ours.value == pytest.approx(np.mean(numbers)) and len(set(numbers)) > 1
    assert ours.shown == f"{np.mean(numbers):.1f} ± {np.std(numbers, ddof=1):.1f}" and np.isnan(ours.low)
    size = table.entries["b", "size"].ours
    assert size and "/" not in size.shown  # all seeds say the same
    assert any("over the seeds 0, 1, 2" in note for note in table.notes)
    none = replace(table.entries["b", "q"], ours=Value(np.nan, 0, np.nan, np.nan))
    some = [replace(none, ours=Value(v, 9, np.nan, np.nan)) for v in (90.0, 120.0)]
    over = [seeds._over(entries).ours for entries in ([none, *some], [none, none])]
    assert over[0] and (over[0].value, over[0].shown) == (105.0, "105.0 ± 21.2 (2 of 3 seeds)")
    assert over[1] and np.isnan(over[1].value)
    apart = {
        "rows": [{"name": f"seed {s}", "where": {"seed": s, "defense": "rnd"}} for s in (0, 1)],
        "columns": columns,
    }
    shown = [built(apart, cells).entries[f"seed {s}", "q"].ours for s in (0, 1)]
    assert [value.value for value in shown if value] == numbers[:2]
