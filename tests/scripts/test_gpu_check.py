"""scripts/gpu_check.py: a stage that fails doesn't stop the next, and every stage runs on a CPU at toy scale."""

import json
import resource
import runpy
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from scripts import gpu_check
from scripts.gpu import busy, goals, training
from scripts.gpu.task import QUICK_WEIGHTS, Task, attempt
from tests.support import caches
from tests.support.pretended import pretended

ROOT = Path(__file__).resolve().parents[2]


def test_a_stage_that_fails_or_hangs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = gpu_check._stage("no_such_stage", [], 60.0, tmp_path)
    assert failed["outcome"].startswith("failed") and "no_such_stage" in failed["log"] and failed["found"] is None
    monkeypatch.setattr(gpu_check, "GRACE", 0.0)
    (tmp_path / "training.json").write_text('{"test_accuracy": 0.5}')  # what it had found when its time was over
    slow = gpu_check._stage("training", ["--out", str(tmp_path), "--seconds", "1"], 0.01, tmp_path)
    assert slow["outcome"] == "out of time" and slow["found"] == {"test_accuracy": 0.5}
    text = gpu_check._markdown({"device": "d", "torch": "2", "quick": True, "stages": [failed, slow]})
    assert "no_such_stage: failed" in text and "test_accuracy: 0.5" in text


FOUND = {
    "device_tests": {"passed": 9, "skipped": 0, "failed": [], "finished": True},
    "throughput": {
        "rates": [
            {"attack": "square", "defence": "none", "over best plain": 0.90},
            {"attack": "square", "defence": "none", "over best plain": 0.97},  # recorded ticks
            {"attack": "square", "defence": "rnd", "over best plain": 0.80},
            {"attack": "rays", "defence": "none", "over best plain": 0.86},
            {"attack": "simba", "defence": "none", "over best plain": 0.86},
            {"attack": "simba", "defence": "rnd", "error": "RuntimeError: CUDA error"},
        ],
        "pgd20": {"over bare passes": 1.04},
        "busy": [{"busy": 0.5, "ticks a look": 8}, {"busy": 0.96, "ticks a look": 8}],
    },
    "square": {
        "walls": [
            {"network": "robust", "who": "pyautoattack", "seconds": 18.0},
            {"network": "robust", "who": "numerics=gpu_tf32", "seconds": 9.0},
            {"network": "robust", "who": "numerics=gpu_bf16", "seconds": 5.0},
            {"network": "plain", "who": "pyautoattack", "error": "ImportError"},
        ]
    },
    "cells": {
        "cells": [
            {"round": "groups", "filler": 0.01},
            {"round": "groups", "filler": 0.07},
            {"round": "numerics", "numerics": "gpu", "clean_accuracy": 0.9, "robust_accuracy": 0.5},
            {"round": "numerics", "numerics": "gpu_bf16", "clean_accuracy": 0.89, "robust_accuracy": 0.52},
            {"round": "numerics", "numerics": "gpu_tf32", "error": "no time was left"},
        ]
    },
}


def test_every_goal_is_said_with_what_was_measured() -> None:
    met = {goal.what.partition(":")[0]: goal.met for goal in goals.of(FOUND)}
    assert met["tests on the device"] == "yes"
    assert met["Square, none"] == "yes"  # the best way to run it
    assert met["Square, rnd"] == "no" and met["Square, unig"] == "not measured"
    assert met["rays"] == "yes" and met["simba"] == "no"  # labels are let off with less
    (nes,) = (goal for goal in goals.of(FOUND, {"throughput": "done"}) if goal.what.startswith("nes"))
    assert nes == (nes.what, ">= 0.9", "(no time was left)", "not measured")
    (robust, plain) = (goal for goal in goals.of(FOUND) if "x 2,500 queries" in goal.what)
    assert (
        robust.met == "yes" and "5.0 s with numerics=gpu_bf16" in robust.measured and plain.measured == "(ImportError)"
    )
    assert met["filler in groups of 32, 128, 256, 512"] == "no"
    assert met["PGD-20 over its bare passes"] == met["device busy while the queue is not empty"] == "yes"
    (bf16,) = (goal for goal in goals.of(FOUND) if goal.what.startswith("gpu_bf16"))
    assert bf16.measured == "-0.0100, +0.0200"
    nothing = goals.of({})
    assert len(nothing) >= 18 and {goal.met for goal in nothing} == {"not measured"}
    assert all(goal.measured.endswith("has not run)") for goal in nothing)
    late = {
        goal.what: goal.measured for goal in goals.of({}, {"training": "out of time", "throughput": "failed with 1"})
    }
    assert late["PreActResNet-18: test accuracy"] == "(stage training: out of time)"
    assert late["PGD-20 over its bare passes"] == "(stage throughput: failed with 1)"
    assert {goal.met for goal in goals.of(FOUND, quick=True)} == {
        "-",
        "not measured",
        "",
    }  # digits say nothing of a GPU


def test_one_measurement_that_fails_is_a_row_of_its_own() -> None:
    def fails() -> dict[str, object]:
        raise RuntimeError("CUDA error: an illegal memory access\nmore")

    row = attempt({"attack": "square"}, fails)
    assert row["attack"] == "square" and row["error"] == "RuntimeError: CUDA error: an illegal memory access"


def test_a_measurement_that_takes_too_long_is_stopped_and_the_next_is_not() -> None:
    def endless() -> dict[str, object]:
        while True:
            time.sleep(0.01)

    assert attempt({"a": 1}, endless, 0.1)["error"] == "Late: not done after 0 s"
    assert attempt({}, lambda: {"slept": time.sleep(0.2)}) == {"slept": None}


def test_training_takes_as_many_epochs_as_fit(tmp_path: Path) -> None:
    assert [training.fitting(seconds, 4.0) for seconds in (-3.0, 61.0, 900.0)] == [5, 15, 40]
    task = Task("cuda", False, 100.0, tmp_path)
    assert training._epochs(task, True) == 20  # no rate is known
    task.write("throughput", {"epoch": {"seconds": 0.3, "images": 5000}})
    assert training._epochs(task, False) == 29 and training._epochs(task, True) == 14


def test_a_compiler_that_fails_costs_one_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(typed: list[str]) -> dict[str, float]:
        if "recipe.compile=true" in typed:
            raise RuntimeError("no C compiler")
        return {"test_accuracy": 0.9}

    monkeypatch.setattr(training, "_trained", trained)
    task = Task("cuda", False, 100.0, tmp_path)
    assert set(QUICK_WEIGHTS) < set(task.trained())  # until it has ended, the others take what stage 2 trained
    training.run(task)
    assert "no C compiler" in task.read("training")["refused"][0]
    assert {"recipe.compile=false", "recipe.epochs=20"} < set(task.trained("samples=3"))


def test_time_that_two_kernels_share_counts_once() -> None:
    assert busy.covered([(0.0, 4.0), (1.0, 2.0), (3.0, 5.0), (7.0, 8.0)]) == 6.0


def test_one_gpu_of_several_is_the_only_one_that_a_stage_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert gpu_check._alone("cuda:1") == ("cuda", {"CUDA_VISIBLE_DEVICES": "6"})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpu_check._alone("cuda:1") == ("cuda", {"CUDA_VISIBLE_DEVICES": "1"})
    assert gpu_check._alone("cpu") == ("cpu", {})


def test_numbers_that_no_table_takes_are_kept_all_the_same(tmp_path: Path) -> None:
    summary = {"device": "d", "torch": "2", "quick": True, "stages": [{"stage": "throughput", "found": {"rates": 3}}]}
    gpu_check._keep(summary, tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["stages"][0]["found"] == {"rates": 3}
    assert "no table" in (tmp_path / "summary.md").read_text()


@pytest.mark.dear
def test_every_stage_runs_on_a_cpu(tmp_path: Path) -> None:
    told = ["--device", "cpu", "--quick", "--out", str(tmp_path)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "scripts/gpu_check.py", *told], cwd=ROOT, capture_output=True, text=True)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {stage["stage"]: stage["outcome"] for stage in summary["stages"]} == dict.fromkeys(gpu_check.SHARES, "done")
    assert done.returncode == 0 and all(stage["found"] for stage in summary["stages"])
    assert (tmp_path / "summary.md").read_text().count("## ") == len(gpu_check.SHARES)
    rows = [row for stage in summary["stages"] for part in stage["found"].values() for row in _rows(part)]
    assert len(rows) > 20 and not [row for row in rows if "error" in row]
    assert not [stage for stage in summary["stages"] if stage["found"].get("not_measured")]  # nothing was left out
    reasons = {goal["measured"] for goal in summary["goals"] if goal["met"] == "not measured"}
    assert reasons == {"(not part of the toy run)"}
    with tarfile.open(tmp_path / "cells.tar.gz") as tar:
        assert sum(name.endswith(".parquet") for name in tar.getnames()) >= 7
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 180  # of two cores, which somebody else may use, too


@pytest.mark.dear
@pytest.mark.filterwarnings("ignore:ticks are not recorded")  # a graph needs a driver
@pytest.mark.parametrize("stage", ["throughput", "training", "square", "planned", "cells"])
def test_a_stage_ends_on_a_device_that_is_pretended(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--device", "cuda", "--out", str(tmp_path), "--seconds", "60", "--quick"]
    monkeypatch.setattr(sys, "argv", [stage, *words])
    with pretended():
        caches.forget()
        runpy.run_module(f"scripts.gpu.{stage}", run_name="__main__")
    caches.forget()
    found = json.loads((tmp_path / f"{stage}.json").read_text())
    assert len(found) > 1 or len(found["cells"]) > 1
    assert not found.get("not_measured") and "error" not in str(found)


def _rows(part: object) -> list[dict[str, object]]:
    return [row for row in part if isinstance(row, dict)] if isinstance(part, list) else []
