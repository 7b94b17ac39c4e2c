"""A rehearsal goes the way of the sweep, through its launcher: what only the fiftieth cell would meet in its process is named."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.launcher, pytest.mark.xdist_group("slurm")]
# 49 cells that differ in what a rehearsal shrinks, and one of its own; its value is read where the cell runs
FIFTY = """\
# @package _global_
hydra: {{mode: MULTIRUN}}
grid:
  - {{attack: square, threat.eps: [{sizes}]}}
  - {{attack: square, attack.p_init: {last}}}
"""
LAUNCHERS = {
    "bench_joblib": ["hydra.launcher.n_jobs=2"],
    "bench_submitit_local": [],
    "bench_submitit_slurm": ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"],
    "bench_ray": [],
}
Rehearse = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(params=LAUNCHERS)
def rehearse(request: pytest.FixtureRequest, tmp_path: Path) -> Rehearse:
    """A last value -> what the rehearsal of the fifty said."""
    launcher: str = request.param
    # Ray gives its workers the least priority of all: on a busy machine they would wait for ever
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    if launcher == "bench_ray":
        pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs pip install -e .[ray]")
    if "submitit" in launcher:
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs pip install -e .[slurm]")
    if launcher == "bench_submitit_slurm":
        environment |= request.getfixturevalue("slurm_environment")

    def run(last: str) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "conf" / "experiment" / "fifty.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(FIFTY.format(sizes=", ".join(f"{i}/255" for i in range(1, 50)), last=last))
        words = [
            "+experiment=fifty",
            f"--config-dir={tmp_path / 'conf'}",
            f"store={tmp_path / 'store'}",
            "rehearse=true",
        ]
        words += ["device=cpu", "threads=1", f"hydra/launcher={launcher}", *LAUNCHERS[launcher]]
        command = [sys.executable, "-m", "bench", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)

    return run


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_mistake_in_the_fiftieth_cell_is_found_and_named(rehearse: Rehearse, tmp_path: Path) -> None:
    done = rehearse("half")
    assert done.returncode == 1, done.stderr
    assert "2 cells, 2 to run" in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert errors == ["error: attacks.query.square.Square.p_init=half must be a number"]
    assert "attack.p_init=half" in done.stderr.partition(errors[0])[2] and "Traceback" not in done.stderr
    assert not _files(tmp_path / "store")


def test_a_grid_without_one_leaves_nothing_in_the_store(rehearse: Rehearse, tmp_path: Path) -> None:
    done = rehearse("0.5")
    assert done.returncode == 0 and "error:" not in done.stderr, done.stderr
    assert done.stdout.count("p_init=0.5") and not _files(tmp_path / "store")
