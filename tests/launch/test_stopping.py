"""A signal to the command alone ends its processes on this machine, too."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.store import leases
from tests.support import shipped

ENDLESS = ["samples=60", "threat.queries=1000000", "threat.eps=1/255", "slots=8", "numerics.rows=8", "defense=none,rnd"]


@pytest.mark.launcher
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGINT, ["hydra/launcher=bench_joblib", "hydra.launcher.n_jobs=2"]),
        (signal.SIGTERM, ["hydra/launcher=bench_joblib", "hydra.launcher.n_jobs=2"]),
        (signal.SIGINT, ["hydra/launcher=bench_submitit_local"]),
        (signal.SIGHUP, ["hydra/launcher=bench_submitit_local"]),
    ],
)
def test_no_orphan_is_left(number: signal.Signals, words: list[str], tmp_path: Path, artifacts: Path) -> None:
    if "submitit" in words[0] and find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        pytest.skip("hydra_submitit_launcher is not installed")
    common = [f"store={tmp_path}", f"artifacts={artifacts}", "threads=1", "device=cpu", *shipped.DIGITS, *ENDLESS]
    # a session of its own, as if started from cron: no terminal sends the signal to the children
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *common, *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        taken = tmp_path / "running"
        _until(lambda: taken.is_dir() and list(taken.glob("*.json")), 90)
        time.sleep(1)
        workers = {json.loads(path.read_text())["pid"] for path in taken.glob("*.json")}
        assert workers and process.pid not in workers and process.poll() is None
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 128 + number and "finished samples are kept" in said and "Traceback" not in said
        _until(lambda: not any(map(leases.here, workers)), 15)
        assert not leases.running(tmp_path)  # the next start need not wait
    finally:
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None


def _until(true, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.1)
