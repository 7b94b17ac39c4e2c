"""A grid on a Ray cluster of two nodes in a network of their own, where there is only the loopback address; one is killed in
mid-sweep."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from bench.config import grid
from tests.launch.test_slurm import frames, same, until
from tests.support import shipped

pytestmark = pytest.mark.launcher
PORT = 6379
RAY = Path(sys.executable).with_name("ray")
# four cells of some ten seconds each
GRID = [
    "samples=30",
    "threat.queries=2000",
    "threat.eps=1/255",
    "slots=8",
    "numerics.rows=8",
    "defense=none,rnd",
    "seed=0,1",
]
COMMON = ["threads=1", "device=cpu", *shipped.DIGITS, *GRID]


@dataclass(frozen=True)
class Cluster:
    environment: dict[str, str]
    inside: list[str]  # begins a command in the cluster's network
    second: subprocess.Popen[bytes]  # a node of one core beside the head's one


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs pip install -e .[ray]")
    if os.geteuid() or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        pytest.skip("needs root, util-linux and iproute2 for a network of its own")
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # pytest's own are too long for a socket's name
    # Ray gives its workers the least priority of all: on a busy machine they would wait for ever
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "RAY_TMPDIR": str(folder)}
    node = [
        RAY,
        "start",
        "--num-cpus=1",
        "--num-gpus=0",
        "--object-store-memory=100000000",
        "--disable-usage-stats",
        "--block",
    ]
    head = [*node, "--head", f"--port={PORT}", "--include-dashboard=false"]
    processes: list[subprocess.Popen[bytes]] = []

    def start(*command: str | Path) -> subprocess.Popen[bytes]:
        with (folder / f"log{len(processes)}").open("wb") as log:
            processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True))
        return processes[-1]

    def nodes() -> int:
        command = [*inside, RAY, "status", f"--address=127.0.0.1:{PORT}"]
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.count("node_")

    try:
        network = start("unshare", "--net", "sh", "-c", "ip link set lo up && exec sleep 900")
        until(lambda: "sleep" in Path(f"/proc/{network.pid}/cmdline").read_text().partition("\0")[0])
        inside = ["nsenter", f"--net=/proc/{network.pid}/ns/net"]
        start(*inside, *head)
        until(lambda: nodes() == 1)
        second = start(*inside, *node, f"--address=127.0.0.1:{PORT}")
        until(lambda: nodes() == 2)
        yield Cluster(environment, inside, second)
    finally:
        for process in processes:
            end(process)
        shutil.rmtree(folder, ignore_errors=True)


def end(node: subprocess.Popen[bytes]) -> None:
    """As a machine that loses its power: all of the node's processes at once, the workers in groups of their own, too."""
    listed = subprocess.run(["ps", "-o", "pid=", "--sid", str(node.pid)], capture_output=True, text=True).stdout.split()
    for pid in listed:
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            continue
    node.wait()


def test_a_node_that_dies_changes_no_record(cluster: Cluster, tmp_path: Path, artifacts: Path) -> None:
    basic = subprocess.run(
        [sys.executable, "-m", "bench", *COMMON, f"artifacts={artifacts}", f"store={tmp_path / 'basic'}"],
        capture_output=True,
    )
    assert basic.returncode == 0
    words = [*COMMON, f"artifacts={artifacts}", f"store={tmp_path / 'ray'}"]
    launcher = ["hydra/launcher=bench_ray", f"hydra.launcher.ray.init.address=127.0.0.1:{PORT}"]
    with (tmp_path / "said").open("w") as log:
        sweep = subprocess.Popen(
            [*cluster.inside, sys.executable, "-m", "bench", *words, *launcher],
            env=cluster.environment,
            stdout=log,
            stderr=log,
            text=True,
        )
    try:
        running = tmp_path / "ray" / "running"
        until(lambda: len(list(running.glob("*.json"))) == 2, sweep, 120)  # one cell a node
        end(cluster.second)
        assert sweep.wait(240) == 0, (tmp_path / "said").read_text()
    finally:
        sweep.kill()
    assert len(grid.cells(words)) == 4
    found: list[pd.DataFrame] = frames(tmp_path / "ray", *words[:-1])
    same(found, frames(tmp_path / "basic", *words[:-1]))
