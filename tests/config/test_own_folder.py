"""A folder of one's own: its YAMLs are found everywhere, and modules beside it import."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config import grid, places
from bench.core.errors import BenchError
from bench.report import specification
from bench.run import cell
from tests.support.cells import Compose

METHOD = """
from defenses.base import Defense, Traits
class Quantise(Defense):
    traits = Traits(differentiable=False)
    def __init__(self, model, levels: int):
        super().__init__(model)
        self.levels = levels
    def forward(self, x, draw):
        return self.model((x * self.levels).round() / self.levels)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    conf = tmp_path / "mine" / "conf"
    for group in ("defense", "experiment", "tables"):
        (conf / group).mkdir(parents=True)
    (tmp_path / "mine" / "own_quantise.py").write_text(METHOD)
    (conf / "defense" / "quantise.yaml").write_text("{_target_: own_quantise.Quantise, levels: 16}")
    text = "# @package _global_\ngrid:\n  - {defense: [none, quantise], threat.queries: 20}\n"
    (conf / "experiment" / "own.yaml").write_text(text)
    table = "tables: {main: {title: T, rows: [{name: Q, where: {defense: quantise}}], columns: [{name: c, metric: clean_acc}]}}"
    (conf / "tables" / "own.yaml").write_text(table)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(places.VARIABLE, raising=False)
    return conf


@pytest.mark.parametrize(
    "how", ["--config-dir {}", "--config-dir={}", "hydra.searchpath=[{}]", "hydra.searchpath=[file://{}]"]
)
def test_every_way_of_naming_it_is_honoured_by_grid_report_and_nearest_names(
    mine: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.VARIABLE, "")
    left = places.taken([*how.format(mine).split(" "), "+experiment=own"])
    assert left == ["+experiment=own"] and os.environ[places.VARIABLE] == str(mine)
    assert [each.choices["defense"] for each in grid.cells(left)] == ["none", "quantise"]
    assert specification.read(left).tables["main"].title == "T"
    with pytest.raises(BenchError, match="defense=quantice is unknown; did you mean 'quantise'"):
        grid.base(["defense=quantice"])
    with pytest.raises(BenchError, match=r"defense\.level.*defense\.levels"):
        grid.base(["defense=quantise", "defense.level=3"])


def test_a_cell_runs_a_module_beside_it_and_its_source_is_in_the_key(
    mine: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(places.VARIABLE, str(mine))
    places.importable()
    config = compose("defense=quantise", "samples=10", "threat.queries=5")
    assert cell.run(config)
    assert "_source_" in cell.CellSpec.parse(config).identity()["defense"]


def test_an_own_yaml_goes_before_the_harness_s_and_gone_folders_are_named(
    mine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (mine / "defense" / "rnd.yaml").write_text("{_target_: own_quantise.Quantise, levels: 3}")
    before = grid.base(["defense=rnd"])["defense"]
    monkeypatch.setenv(places.VARIABLE, str(mine))
    assert grid.base(["defense=rnd"])["defense"] == {"_target_": "own_quantise.Quantise", "levels": 3} != before
    monkeypatch.setenv(places.VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(BenchError, match=r"no folder .*gone"):
        grid.base([])


def test_a_module_with_the_name_of_a_package_of_the_harness_is_refused(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine.parent / "defenses.py").write_text("")
    with pytest.raises(BenchError, match="rename it"):
        places.taken(["--config-dir", str(mine)])


def bench(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(places.CHECKOUT), **variables}
    call = [sys.executable, "-m", "bench", *words]
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_cfg_info_and_completion_know_it(mine: Path, tmp_path: Path) -> None:
    shown = bench(tmp_path, "--config-dir", "mine/conf", "--cfg", "job", "defense=quantise")
    assert "_target_: own_quantise.Quantise" in shown.stdout, shown.stderr
    assert f"file://{mine}" in bench(tmp_path, "--info", "searchpath", BENCH_CONFIG_PATH="mine/conf").stdout
    line = "defence-bench defense=qu"
    found = bench(
        tmp_path,
        "--shell-completion",
        "query=bash",
        BENCH_CONFIG_PATH=str(mine),
        COMP_LINE=line,
        COMP_POINT=str(len(line)),
    )
    assert "defense=quantise" in found.stdout, found.stderr
    wrong = bench(tmp_path, "--config-dir", "nowhere", "defense=none")
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: no folder") and wrong.stderr.count("\n") == 1
