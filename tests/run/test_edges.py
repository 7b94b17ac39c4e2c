"""The edges of a cell: odd widths, noise that no key draws, costs without filler, numbers near chance, stores without records."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.core.errors import BenchError
from bench.models.small_cnn import small_cnn
from bench.models.split import even
from bench.run import cell
from bench.store.records import Cell

ODD = [17, 50, 51, 514]


@pytest.mark.parametrize("width", ODD)
def test_rows_of_an_odd_width_do_not_depend_on_their_place(width: int) -> None:
    torch.manual_seed(0)
    network = small_cnn(10, [1, 8, 8], [0.0], [1.0], 4, width).eval().requires_grad_(False)
    x = torch.rand(64, 1, 8, 8)
    before = network(x)
    even(network)
    order = torch.arange(63, -1, -1)
    assert torch.equal(network(x), network(x[order])[order])
    assert torch.allclose(network(x), before, atol=1e-5)
    assert isinstance(network.head, nn.Linear) and network.head.in_features == width


def test_a_network_of_odd_width_runs_as_a_cell(compose) -> None:
    whole = compose("model.build.hidden=50", "recipe.epochs=1", "samples.n=12", "threat.queries=5")
    assert len(Cell(Path(whole["store"]), cell.run(whole)).frame()) == 12


def test_noise_without_a_key_is_named(compose) -> None:
    whole = compose("defense._target_=tests.support.noops.Unkeyed", "samples.n=10", "threat.queries=5")
    with pytest.raises(BenchError, match=r"draws noise that is not keyed: use draw.key\(\)"):
        cell.run(whole)


def macs(compose: Any, tmp_path: Path, *words: str) -> float:
    whole = compose(
        "attack=none", "samples.n=8", *words, store=tmp_path / "".join(c for c in "".join(words) if c.isalnum())
    )
    return Cell(Path(whole["store"]), cell.run(whole)).description()["cost"]["macs"]


def test_the_cost_of_a_defence_has_no_filler(compose, tmp_path: Path) -> None:
    """UniG with 8 rows in a group costs a network pass an image and some products behind the features, whatever a call holds."""
    bare = macs(compose, tmp_path, "defense=none")
    costs = {
        rows: macs(compose, tmp_path, "defense=unig", "defense.group.size=8", f"numerics.rows={rows}")
        for rows in (8, 64)
    }
    head = 64 * 10  # of the network: UniG goes through it forward and backward
    assert costs[8] == costs[64]
    assert bare < costs[64] <= bare + 12 * head


def test_a_clean_accuracy_near_chance_is_said_below_the_table(compose, tmp_path: Path) -> None:
    from bench.config import grid
    from bench.report.records import Records
    from bench.report.seeds import BySeed, build_over
    from bench.report.select import CellIndex
    from bench.report.table_specs import table

    words = ["recipe.epochs=0", "samples.n=60", "threat.queries=2"]  # an untrained network
    whole = compose(*words)
    cell.run(whole)
    overrides = [*words, f"store={whole['store']}", f"artifacts={whole['artifacts']}", "threat.eps=1/12"]
    from tests.support import shipped

    cells = grid.cells([*shipped.DIGITS, *overrides])
    spec = table(
        "t", {"rows": [{"name": "Untrained", "where": {}}], "columns": [{"name": "Square", "metric": "robust_acc"}]}
    )
    built = build_over("t", spec, BySeed(CellIndex(cells)), Records(), False)
    assert any("Untrained: clean accuracy" in note and "is near chance (10.0)" in note for note in built.notes)


def test_a_report_without_any_record_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.report", "+experiment=digits_square", f"store={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "has no record of these 8 cells" in done.stderr.splitlines()[-1]
    assert len(done.stderr.strip().splitlines()) == 1 and not list(tmp_path.iterdir())


def test_weights_of_no_kind_are_refused(compose) -> None:
    with pytest.raises(BenchError, match=r"model\.weights"):
        cell.run(compose("model.weights=recipes", "samples.n=5"))
