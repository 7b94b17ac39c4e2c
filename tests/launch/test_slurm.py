"""A small grid on a Slurm of one machine that the test starts itself: what a user of a cluster meets, in one order of events.

The grid is two or three defences under Square on the shipped network; nothing is trained.
"""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from bench.config import grid
from bench.store import marks
from bench.store.records import Cell
from tests.support import shipped

pytestmark = [pytest.mark.launcher, pytest.mark.xdist_group("slurm")]
SMALL = ["hydra/launcher=bench_submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]
GRID = ["samples=30", "threat.queries=1500", "threat.eps=1/255", "slots=8", "defense=none,rnd"]
LONG = [*GRID, "numerics.rows=8"]  # seconds of work in each of two cells, on a fast machine, too
ENDLESS = [*LONG, "threat.queries=1000000"]  # to be cancelled


class User:
    """Who sits at a machine of the cluster, with a store of their own."""

    def __init__(self, environment: dict[str, str], folder: Path, artifacts: Path) -> None:
        self.environment, self.store = environment, folder / "store"
        self.common = [
            f"store={self.store}", f"artifacts={artifacts}", "threads=1", "device=cpu", *shipped.DIGITS
        ]  # fmt: skip

    def start(self, *words: str, verb: str = "run") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bench", verb, *self.common, *SMALL, *words]
        log = open(self.store.parent / "said", "w")  # noqa: SIM115 (the process outlives this function)
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=log, text=True)

    def said(self) -> str:
        return (self.store.parent / "said").read_text()

    def does(self, *words: str, verb: str = "run", code: int = 0) -> str:
        process = self.start(*words, verb=verb)
        try:
            assert process.wait(150) == code, self.said()
        finally:
            process.kill()
        return self.said()

    def ask(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True).stdout

    def jobs(self, state: str = "") -> list[str]:
        lines = self.ask("squeue", "--noheader", "--array", "--format=%i|%T").splitlines()
        return [line.partition("|")[0] for line in lines if line.endswith(state)]

    def frames(self, *words: str) -> list[pd.DataFrame]:
        return frames(self.store, *self.common[1:], *words)

    def hold(self) -> None:
        """Stops the clock of all jobs, so that no test depends on how fast they are."""
        self.ask("scontrol", "suspend", ",".join(self.jobs("RUNNING")))

    def let_go(self) -> None:
        self.ask("scontrol", "resume", ",".join(self.jobs("SUSPENDED")))

    def end_of_time(self, job: str) -> None:
        """Slurm's signal before the limit, which a task that has just been resumed may not hear."""
        for _ in range(20):
            self.ask("scancel", job, "--signal=USR2")
            for _ in range(10):
                if "Restarts=1" in self.ask("scontrol", "show", "job", job):
                    return
                time.sleep(0.1)

    def begun(self) -> int:
        """Cells that a job attacks, some seconds on."""
        leases = list((self.store / "running").glob("*.json"))
        parts = list((self.store / "cells").glob("*/part-*"))  # of their clean passes
        return len(leases) if len(parts) >= len(leases) else 0


def frames(store: Path, *words: str) -> list[pd.DataFrame]:
    return [Cell(store, cell.key).frame().drop(columns="seconds") for cell in grid.cells([*words, f"store={store}"])]


def until(true: Callable[[], object], process: subprocess.Popen[str] | None = None, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "nothing came of it"
        assert process is None or process.poll() is None, "it ended before"
        time.sleep(0.1)


def same(ours: Sequence[pd.DataFrame], theirs: Sequence[pd.DataFrame]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.fixture
def user(slurm_environment: dict[str, str], tmp_path: Path, artifacts: Path) -> Iterator[User]:
    one = User(slurm_environment, tmp_path, artifacts)
    yield one
    one.let_go()
    subprocess.run(["scancel", "--user=root", "--signal=KILL"], env=slurm_environment, capture_output=True)
    subprocess.run(["scancel", "--user=root"], env=slurm_environment, capture_output=True)
    until(lambda: not subprocess.check_output(["squeue", "-h"], env=slurm_environment))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> list[pd.DataFrame]:
    """Of LONG, by the basic launcher."""
    store = tmp_path_factory.mktemp("basic")
    words = [f"artifacts={artifacts}", "threads=1", "device=cpu", *shipped.DIGITS, *LONG]
    subprocess.run([sys.executable, "-m", "bench", *words, f"store={store}"], check=True, capture_output=True)
    return frames(store, *words)


def test_the_records_are_those_of_the_basic_launcher_and_a_failed_cell_leaves_the_rest(
    user: User, reference: list[pd.DataFrame]
) -> None:
    """Two cells to a job: the one that fails leaves the one beside it."""
    said = user.does(*GRID, "numerics.rows=8,12", "hydra.sweeper.cells_per_job=2", code=1)
    assert said.count("error: slots=8 must be a multiple of numerics.rows=12") == 2 == said.count("error:")
    assert "sacct" not in said and "Warning" not in said
    same(user.frames(*LONG), reference)
    left = [path.name for folder in ("running", "submitted", ".submitit") for path in (user.store / folder).iterdir()]
    assert not left
    (log,) = (user.store / "logs").iterdir()  # the jobs' words are in it, too
    assert log.read_text().count(": done in") == 2 and log.read_text().startswith("$ python -m bench ")


def test_jobs_outlive_their_parent_and_their_time_limit(user: User, reference: list[pd.DataFrame]) -> None:
    """Ctrl-C on the parent; a second start waits; Slurm's signal before the limit queues the jobs again; they go on."""
    process = user.start(*LONG)
    until(lambda: user.begun() == 2, process)
    before = user.jobs()
    user.hold()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert "2 jobs go on in Slurm" in user.said() and "the same command waits for them" in user.said()
    process = user.start(*LONG)
    until(lambda: "2 cells are at work elsewhere" in user.said(), process)
    user.let_go()
    for job in before:
        user.end_of_time(job)
    assert process.wait(150) == 0, user.said()
    told = user.ask("scontrol", "show", "job", "--oneliner")
    assert f"ArrayJobId={before[0].partition('_')[0]} " in told and "Restarts=1" in told
    assert max(map(int, re.findall(r"\bArrayJobId=(\d+)", told))) == int(before[0].partition("_")[0])  # none came after
    same(user.frames(*LONG), reference)


def test_a_killed_task_is_named_and_retried(user: User, reference: list[pd.DataFrame]) -> None:
    process = user.start(*LONG)
    until(lambda: user.begun() == 2, process)
    first = user.jobs()[0]
    user.hold()  # or a fast machine's would end first
    user.ask("scancel", "--signal=KILL", first)  # without accounting nobody says that it is gone
    user.let_go()
    assert process.wait(150) == 1
    said = user.said()
    assert said.count("ended before its cell did") == 1 and "sacct" not in said and "Traceback" not in said
    assert "1 failed, 1 done of 2 cells" in user.ask(sys.executable, "-m", "bench", "status", *user.common, *LONG)
    assert "2 cells, 1 to run" in user.does(*LONG, verb="retry")
    same(user.frames(*LONG), reference)


def test_a_cancelled_array_does_not_come_back(user: User) -> None:
    """The parent is killed, a second start waits, names the task that was cancelled at once, and is told of the array's end."""
    process = user.start(*ENDLESS)
    until(lambda: len(user.jobs("RUNNING")) == 2, process)
    process.kill()
    process.wait()
    process = user.start(*ENDLESS)
    until(lambda: "2 cells are at work elsewhere" in user.said(), process)
    first, second = user.jobs()
    user.ask("scancel", first)
    until(lambda: marks.failures(user.store), process)
    assert user.jobs() == [second]
    user.ask("scancel", second.partition("_")[0])
    assert process.wait(60) == 1
    assert user.said().count("at work elsewhere") == 1
    assert user.said().count("ended before its cell did (CANCELLED") == 2


def test_the_verb_cancel_ends_what_a_killed_parent_left(user: User) -> None:
    process = user.start(*ENDLESS)
    until(lambda: len(user.jobs("RUNNING")) == 2, process)
    status = user.ask(sys.executable, "-m", "bench", "status", *user.common, *ENDLESS)
    assert status.count("Slurm job") == 2, status
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM and "2 jobs go on in Slurm" in user.said()
    told = user.ask(sys.executable, "-m", "bench", "cancel", *user.common, *ENDLESS)
    assert "2 Slurm jobs cancelled" in told
    until(lambda: not user.jobs())


def test_what_slurm_refuses_is_one_line_and_what_it_lets_pend_is_told(user: User) -> None:
    said = user.does("samples=10", "threat.queries=5", "device=cuda", code=1)
    assert said.count("\n") == 2 and "error: slurm takes no such job (Invalid generic resource (gres)" in said
    process = user.start("samples=10", "threat.queries=5", "hydra.launcher.cpus_per_task=64")
    until(lambda: "1 pending (PartitionConfig: the partition has no node" in user.said(), process)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130 and "1 jobs go on in Slurm" in user.said()
