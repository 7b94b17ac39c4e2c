"""The Python API: objects in memory through the same engine, ledger and store as the command line."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import bench
from bench.api import compared, stored
from bench.config import grid, places
from bench.core.errors import BenchError
from bench.run import cell
from bench.store.records import Cell
from defenses.none import Undefended
from tests.support.scene import Scene

WORDS = ["numerics.rows=16", "device=cpu", "threads=1"]


@pytest.fixture
def given(digits: Scene) -> tuple[nn.Module, Any, Any]:
    return digits.network, digits.x[:40], digits.y[:40]


def test_a_network_and_tensors_become_a_stored_cell(given: Any, tmp_path: Path) -> None:
    network, x, y = given
    found = bench.evaluate(network, (x, y), threat="linf 1/12", queries=30, classes=10, store=tmp_path, words=WORDS)
    assert len(found.frame) == 40 and found.clean_accuracy.value == 100.0
    robust = found.frame["clean"] & ~found.frame["fooled"]
    assert found.accuracy.value == pytest.approx(100 * robust.mean()) and found.accuracy.low < found.accuracy.value
    assert found.frame["queries"].max() == 30 and found.ledger["attack"] == found.frame["queries"].sum()
    curve = found.curve()
    assert curve["accuracy"].iloc[0] == 100.0 and curve["accuracy"].iloc[-1] == pytest.approx(found.accuracy.value)
    assert "robust" in found.show() and "<table>" in found._repr_html_()
    parts = [path.stat().st_mtime_ns for path in Cell(tmp_path, found.key).parts()]
    again = bench.evaluate(network, (x, y), threat="linf 1/12", queries=30, classes=10, store=tmp_path, words=WORDS)
    assert again.key == found.key and parts == [p.stat().st_mtime_ns for p in Cell(tmp_path, found.key).parts()]


def test_fewer_images_than_the_store_has_and_a_part_of_them(given: Any, tmp_path: Path) -> None:
    network, x, y = given
    common: dict[str, Any] = {"threat": "linf 1/12", "classes": 10, "store": tmp_path, "queries": 10}
    whole = bench.evaluate(network, (x, y), words=WORDS, **common)
    few = bench.evaluate(network, (x, y), words=WORDS, samples=8, **common)
    assert few.key == whole.key and len(few.frame) == 8
    assert few.ledger == whole.ledger  # the cell's, as its docstring says
    with pytest.raises(BenchError, match=r"shard=1/2 is done, 20 images of the cell are there; run its other parts"):
        bench.evaluate(network, (x, y), words=[*WORDS, "shard=1/2", "seed=3"], **common)
    other = bench.evaluate(network, (x[:30], y[:30]), words=WORDS, **common)
    with pytest.raises(BenchError, match=f"{whole.key} and {other.key} are of other data"):
        compared.cells(tmp_path, whole.key, other.key)
    clean = bench.evaluate(network, (x, y), "none", words=WORDS, **common)
    with pytest.raises(BenchError, match=f"{clean.key} is a clean pass"):
        compared.cells(tmp_path, whole.key, clean.key)
    assert compared.cells(tmp_path, whole.key, whole.key).difference == 0


def test_its_images_transfer_and_elsewhere_its_cell_says_what_it_was(given: Any, tmp_path: Path) -> None:
    network, x, y = given
    common: dict[str, Any] = {"threat": "linf 1/12", "classes": 10, "store": tmp_path, "words": WORDS}
    found = bench.evaluate(network, (x, y), "transfer_undefended", "rnd", **common)
    assert found.accuracy.value < found.clean_accuracy.value  # crafted on the object
    with pytest.raises(BenchError, match=r"the network Split \(sha256 [0-9a-f]{12}\) was an object"):
        cell.run(grid.cells(shlex.split(found.command)[3:])[0].config)


def test_numpy_bytes_a_defence_s_class_and_a_name_of_one(given: Any, tmp_path: Path) -> None:
    network, x, y = given
    data = ((x * 255).round().byte().numpy(), np.asarray(y))
    kinds: list[Any] = [None, Undefended]
    plain, wrapped = (
        bench.evaluate(
            network, data, "pgd", each, "linf 1/12", classes=10, store=tmp_path, words=[*WORDS, "attack.steps=3"]
        )
        for each in kinds
    )
    assert plain.frame["fooled"].tolist() == wrapped.frame["fooled"].tolist()
    noisy = bench.evaluate(network, data, "none", "rnd", classes=10, store=tmp_path, words=WORDS)
    assert noisy.key != plain.key and len(noisy.frame) == 40
    every = bench.records(tmp_path)
    assert set(every["cell"]) == set(stored.keys(tmp_path)) and {
        "attack._target_",
        "defense._target_",
        "fooled",
    } <= set(every)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data": "digitz"}, "dataset=digitz is unknown; did you mean 'digits'"),
        ({"attack": "sqare"}, "attack=sqare is unknown; did you mean 'square'"),
        ({"threat": "l3 1"}, "write `<norm> <eps>`"),
        ({"data": 3}, "data is a int; give"),
        ({"words": ["seed=0,1"]}, "name 2 cells, not one"),
    ],
)
def test_what_can_t_work_is_one_line(change: dict[str, Any], says: str, given: Any, tmp_path: Path) -> None:
    network, x, y = given
    fields = {"data": (x, y), "store": tmp_path, "classes": 10, "words": WORDS, "queries": 5} | change
    with pytest.raises(BenchError, match=says) as caught:
        bench.evaluate(network, **fields)
    assert "\n" not in str(caught.value)


def test_tables_of_published_records() -> None:
    tables = bench.table("digits_square", store=places.shipped("results") / "published")
    (built, below) = tables["square"]
    assert built.rows[0] == "Vanilla" and below


def test_import_is_light_and_unknown_names_are_no_attributes() -> None:
    code = "import sys, bench; sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'hydra')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=places.CHECKOUT).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'evaluat'"):
        _ = bench.evaluat  # pyright: ignore[reportAttributeAccessIssue]
