"""A sweep from outside: what is done, at work, failed and missing; what a plan adds up; a second start waits for the first."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.config import grid
from bench.run import cell
from bench.store import marks
from bench.sweep import plan, status
from tests.support import shipped


def cells(store: Path, artifacts: Path, *words: str) -> list[grid.GridCell]:
    common = [f"store={store}", f"artifacts={artifacts}", "threads=1", "device=cpu", "threat.eps=1/12", *shipped.DIGITS]
    return grid.cells([*common, "samples=20", "threat.queries=10", *words])


def test_each_state_is_told_apart(tmp_path: Path, artifacts: Path) -> None:
    found = cells(tmp_path, artifacts, "defense=none,rnd", "attack=square,noise,none")
    done, failed, busy = found[0], found[1], found[3]
    cell.run(done.config)
    marks.fail(tmp_path, failed.key, "out of luck", "a command")
    with marks.Lease(tmp_path, busy.key, "a command"):
        states = {each.key: each for each in status.status(found)}
    assert states[done.key].state == "done" and states[failed.key].state == "failed"
    assert states[busy.key].state == "running" and f"pid {os.getpid()}" in states[busy.key].said
    assert states[found[4].key].state == "missing"
    after = {each.key: each.state for each in status.status(found)}
    assert after[busy.key] == "missing"  # the lease is gone with its process's work
    told = status.lines(list(states.values()))
    assert told[0].startswith("1 running, 1 failed, 2 missing, 2 done of 6 cells") and any(
        "out of luck" in line for line in told
    )
    assert json.dumps(status.plain(list(states.values())))


def test_half_a_cell_is_partial(tmp_path: Path, artifacts: Path) -> None:
    (one,) = cells(tmp_path, artifacts, "shard=1/2")
    cell.run(one.config)
    (found,) = status.status(cells(tmp_path, artifacts))
    assert found.state == "partial" and found.samples == 10 and found.of == 20


def test_a_lease_that_nobody_renews_is_nobodys(tmp_path: Path) -> None:
    lease = marks.Lease(tmp_path, "k", "c")
    with lease:
        (path,) = (tmp_path / "running").iterdir()
        old = time.time() - marks.LOST - 1
        os.utime(path, (old, old))
        assert marks.running(tmp_path) == {}
    gone = json.loads(json.dumps({"key": "x", "host": "elsewhere", "pid": 1, "since": 0.0, "command": "c"}))
    (tmp_path / "running" / "x.json").write_text(json.dumps(gone))
    assert set(marks.running(tmp_path)) == {"x"}  # another machine's, renewed just now
    (tmp_path / "running" / "y.json").write_text("{half")
    assert set(marks.running(tmp_path)) == {"x"}


def test_a_plan_adds_up(tmp_path: Path, artifacts: Path) -> None:
    found = cells(tmp_path, artifacts, "attack=square,none")
    pgd = cells(tmp_path, artifacts, "attack=pgd", "attack.steps=7", "attack.restarts=2", "defense=rnd",
                "attack/oracle=eot", "attack.oracle.samples=3")  # fmt: skip
    made = plan.plan([*found, *pgd])
    assert (made.cells, made.missing, made.trainings) == (3, 3, 0)  # the shipped weights are there
    assert made.backward == 20 * 7 * 2 * 3
    assert made.forward == 20 * (1 + 10 + 10) + 20 * 1 + 20 * (2 + 42 + 10)
    assert made.seconds is not None and made.seconds > 0
    fresh = plan.plan(cells(tmp_path, tmp_path / "none", "attack=none"))
    assert fresh.trainings == 1 and fresh.epochs == found[0].config["recipe"]["epochs"]


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)


@pytest.mark.slow
def test_failed_cells_are_retried_alone_and_a_second_start_waits(tmp_path: Path, artifacts: Path) -> None:
    words = [
        f"store={tmp_path}",
        f"artifacts={artifacts}",
        "threads=1",
        "device=cpu",
        "threat.eps=1/12",
        *shipped.DIGITS,
    ]
    words += ["samples=20", "threat.queries=10", "defense=none,rnd"]
    first, second = grid.cells(words)
    (tmp_path / "cells").mkdir(parents=True)
    (tmp_path / "cells" / second.key).write_text("in the way")
    marks.fail(tmp_path, second.key, "it failed", second.command)
    (tmp_path / "cells" / second.key).unlink()
    done = command("bench.sweep", "retry", *words)
    assert done.returncode == 0 and "1 cells to run again" in done.stderr
    states = {each.key: each.state for each in status.status([first, second])}
    assert states == {first.key: "missing", second.key: "done"}
    with marks.Lease(tmp_path, first.key, "c"):
        waiting = subprocess.Popen([sys.executable, "-m", "bench", *words], stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert any("1 cells are at work elsewhere" in line for line in waiting.stderr)  # reads on till it is said
        time.sleep(3)
        assert waiting.poll() is None and not list((tmp_path / "cells").glob(f"{first.key}/part-*"))
    waiting.communicate(timeout=120)
    assert waiting.returncode == 0
    assert {each.state for each in status.status([first, second])} == {"done"}
    shown = command("bench.sweep", "status", *words, "--json")
    assert json.loads(shown.stdout)["counts"] == {"done": 2}


def test_an_unknown_verb_is_one_line() -> None:
    done = command("bench.sweep", "sttus")
    assert done.returncode == 1 and done.stderr.strip() == "error: sttus is unknown; it is one of status, plan, retry"
