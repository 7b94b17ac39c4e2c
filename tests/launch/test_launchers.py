"""The same records from every launcher that runs on one machine, and from shards."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from bench.config import grid, resolvers
from bench.store.records import Cell

pytestmark = pytest.mark.launcher
ROOT = Path(__file__).resolve().parents[2]
TYPED = ["defense=none,rnd", "samples.n=60", "threat.queries=30", "threads=1", "device=cpu"]


def run(store: Path, artifacts: Path, *typed: str) -> list[pd.DataFrame]:
    common = [*TYPED, f"store={store}", f"artifacts={artifacts}"]
    command = [sys.executable, "-m", "bench", *common, *typed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [Cell(store, cell.key).frame().drop(columns="seconds") for cell in grid.cells(common)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> list[pd.DataFrame]:
    return run(tmp_path_factory.mktemp("basic"), artifacts)


@pytest.mark.parametrize(
    ("launcher", "plugin"),
    [("bench_joblib", "hydra_joblib_launcher"), ("bench_submitit_local", "hydra_submitit_launcher")],
)
def test_launchers_make_the_records_of_the_basic_one(
    launcher: str, plugin: str, reference: list[pd.DataFrame], tmp_path: Path, artifacts: Path
) -> None:
    if find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(f"{plugin} is not installed")
    for ours, theirs in zip(run(tmp_path, artifacts, f"hydra/launcher={launcher}"), reference, strict=True):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    (log,) = (tmp_path / "logs").iterdir()  # the command's: what jobs say in processes of their own is there, too, once
    assert sorted(re.findall(r"^\[(\d)/2\] .*: done in", log.read_text(), re.M)) == ["1", "2"]


def test_shards_add_up(reference: list[pd.DataFrame], tmp_path: Path, artifacts: Path) -> None:
    run(tmp_path, artifacts, "shard=2/2")
    for ours, theirs in zip(run(tmp_path, artifacts, "shard=1/2"), reference, strict=True):
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def test_slurms_preset_asks_for_a_gpu_and_time(reference: list[pd.DataFrame]) -> None:
    if find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        pytest.skip("hydra_submitit_launcher is not installed")
    command = [
        sys.executable,
        "-m",
        "bench",
        "--cfg",
        "hydra",
        "-p",
        "hydra.launcher",
        "hydra/launcher=bench_submitit_slurm",
    ]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300).stdout
    assert (
        "gpus_per_node: ${cluster_gpus:${device}}" in shown
        and "timeout_min: 240" in shown
        and "max_num_timeout: 100" in shown
    )


def test_jobs_at_once_follow_the_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for visible, count in (("0,1,2", 3), ("", 0), ("-1", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert resolvers.visible_gpus() == count
        assert resolvers.jobs() == count or (count == 0 and resolvers.jobs() >= 1)
