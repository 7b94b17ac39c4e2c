"""The verbs of the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from bench import verbs
from bench.api.compared import paired
from bench.config import places
from bench.core.errors import BenchError
from bench.store.dictionary import COLUMNS
from bench.store.schema import SCHEMA


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(places.CHECKOUT)}
    call = [sys.executable, "-m", "bench", *words]
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_verb_has_a_line_and_a_main() -> None:
    assert {"run", "report", "init", "records", "compare", "audit"} <= set(verbs.names())
    for name in verbs.names():
        assert verbs.line(name) and callable(verbs.verb(name))


def test_the_dictionary_explains_every_column() -> None:
    assert list(COLUMNS) == SCHEMA.names


def test_what_init_writes_runs_and_its_test_passes_and_records_and_compare_read_it(tmp_path: Path) -> None:
    assert bench(tmp_path, "init", "mine").returncode == 0
    again = bench(tmp_path, "init", "mine")
    assert again.returncode == 1 and "not empty" in again.stderr
    folder, small = tmp_path / "mine", ["samples=10", "recipe.epochs=1", "device=cpu", "threads=1", "store=s"]
    run = bench(folder, "--config-dir", "conf", "+experiment=mine", "threat.queries=5", *small)
    assert run.returncode == 0 and "JPEG" in run.stdout, run.stderr
    test = [sys.executable, "-c", "import test_mine; test_mine.test_traits()"]
    environment = {**os.environ, "PYTHONPATH": str(places.CHECKOUT)}
    proven = subprocess.run(test, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert proven.returncode == 0, proven.stderr
    lines = bench(folder, "records", "store=s", "--json").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    attacked = sorted({row["cell"] for row in rows if row.get("queries") is not None})
    assert len(rows) == 50 and len(attacked) >= 2
    found = bench(folder, "compare", attacked[0], attacked[1], "store=s", "--json")
    assert json.loads(found.stdout)["n"] == 10, found.stderr
    assert bench(folder, "records", "store=s", "--csv").stdout.startswith("cell,")
    wrong = bench(folder, "compare", attacked[0])
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: compare takes two")


def test_a_paired_difference_is_mcnemar_s() -> None:
    a = np.array([True] * 60 + [False] * 40)
    b = np.array([True] * 50 + [False] * 10 + [True] * 3 + [False] * 37)
    found = paired("a", "b", a, b)
    assert (found.only_a, found.only_b, found.n) == (10, 3, 100) and found.difference == pytest.approx(-7.0)
    assert found.p == pytest.approx(binomtest(3, 13).pvalue) and found.low < -7 < found.high
    same = paired("a", "a", a, a)
    assert same.p == 1.0 and same.low < 0 < same.high
    with pytest.raises(BenchError, match="no image in common"):
        paired("a", "b", a[:0], b[:0])


CELL = ("attack=none", "samples=10", "recipe.epochs=1", "device=cpu", "threads=1", "store=s")


def test_quiet_json_and_a_log_file_a_run(tmp_path: Path) -> None:
    """Progress goes to stderr, tables to stdout, both into the store's log; --json leaves one object an entry."""
    first = bench(tmp_path, *CELL)
    assert first.returncode == 0 and "1 to run" in first.stderr and "clean acc" in first.stdout, first.stderr
    (log,) = (tmp_path / "s" / "logs").glob("*.log")
    said = log.read_text()
    assert said.startswith("$ ") and "attack=none" in said.splitlines()[0]
    assert "1 to run" in said and "done in" in said and "clean acc" in said and "\x1b" not in said
    quiet = bench(tmp_path, *CELL, "--quiet")
    assert quiet.returncode == 0 and quiet.stderr == "" and quiet.stdout == first.stdout
    (entry,) = map(json.loads, bench(tmp_path, *CELL, "--json").stdout.splitlines())
    assert entry["n"] == 10 and entry["low"] <= entry["value"] <= entry["high"] and entry["paper"] is None
    wrong = bench(tmp_path, "--quiet", "defense=rnt")
    assert wrong.returncode == 1 and wrong.stderr.startswith("error: ") and wrong.stderr.count("\n") == 1


def test_help_names_every_verb_and_every_experiment_with_its_title(tmp_path: Path) -> None:
    said = bench(tmp_path, "--help").stdout.splitlines()
    for name in verbs.names():
        assert any(line.split()[:1] == [name] and len(line.split()) > 2 for line in said), name
    for name in places.choices("experiment"):
        assert any(line.split()[:1] == [name] and len(line.split()) > 1 for line in said), name
    assert any(line.startswith("attack/oracle: ") for line in said)


def test_a_sweep_typed_as_hydras_and_hydras_own_help(tmp_path: Path) -> None:
    """--cfg, --info and completion: tests/config/test_own_folder.py."""
    small = ("attack=none", "samples=5", "recipe.epochs=1", "device=cpu", "threads=1", "store=s")
    swept = bench(tmp_path, "--multirun", "defense=none,aaa", *small)
    assert swept.returncode == 0 and "2 to run" in swept.stderr and "defense=aaa" in swept.stdout, swept.stderr
    assert "--multirun" in bench(tmp_path, "--hydra-help").stdout
