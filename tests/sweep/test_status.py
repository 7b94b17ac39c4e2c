"""A sweep from outside: what is done, at work, failed and missing; what a plan adds up; a second start waits for the first."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.config import grid
from bench.launch import elsewhere, slurm
from bench.run import cell
from bench.store import leases, marks
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
    with leases.Lease(tmp_path, busy.key, "a command"):
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
    assert states[done.key].name == "defense=none attack=square"
    assert json.dumps(status.plain(list(states.values())))


def test_cells_are_named_by_what_tells_them_apart_and_the_first_queued_are_listed() -> None:
    found = [status.CellStatus(f"k{i}", "queued", 0, 20, "Slurm job 1", "a command", f"seed={i}") for i in range(30)]
    told = status.lines([*found, status.CellStatus("r", "running", 3, 20, "here", "a command", "seed=30")])
    assert told[0] == "1 running, 30 queued of 31 cells"
    assert told[1:3] == ["  running seed=30, 3/20 samples, here", "  queued seed=0, 0/20 samples, Slurm job 1"]
    assert told[-1] == "  and 22 more queued" and len(told) == 1 + 1 + 8 + 1


def test_a_job_that_has_begun_and_not_yet_its_cell_is_starting(tmp_path: Path) -> None:
    """Of several cells of one job those whose turn has not come wait for a job that runs."""
    given = marks.submit(tmp_path, "bench-1", [["a"], ["b", "c"], ["d"]])
    jobs = [slurm.Job(f"7_{i}", "bench-1", i, "RUNNING", "None") for i in (0, 1)]
    found = elsewhere._queued(tmp_path, [given], [*jobs, slurm.Job("7_2", "bench-1", 2, "PENDING", "Resources")])
    assert found["a"] == "Slurm job 7_0 (starting)" and found["d"] == "Slurm job 7_2 (pending, Resources)"
    assert found["b"] == found["c"] == "Slurm job 7_1 (running)"


def test_half_a_cell_is_partial(tmp_path: Path, artifacts: Path) -> None:
    (one,) = cells(tmp_path, artifacts, "shard=1/2")
    cell.run(one.config)
    (found,) = status.status(cells(tmp_path, artifacts))
    assert found.state == "partial" and found.samples == 10 and found.of == 20


def test_a_lease_that_nobody_renews_is_nobodys(tmp_path: Path) -> None:
    lease = leases.Lease(tmp_path, "k", "c")
    with lease:
        (path,) = (tmp_path / "running").iterdir()
        old = time.time() - leases.LOST - 1
        os.utime(path, (old, old))
        assert leases.running(tmp_path) == {}
    gone = json.loads(json.dumps({"key": "x", "host": "elsewhere", "pid": 1, "since": 0.0, "command": "c"}))
    (tmp_path / "running" / "x.json").write_text(json.dumps(gone))
    assert {one.key for one in leases.running(tmp_path).values()} == {"x"}  # another machine's, renewed just now
    (tmp_path / "running" / "y.json").write_text("{half")
    assert {one.key for one in leases.running(tmp_path).values()} == {"x"}


def test_one_lease_a_cell(tmp_path: Path) -> None:
    with leases.Lease(tmp_path, "k", "c"), leases.Lease(tmp_path, "k", "c", (1, 2)):  # shards share it by intent
        with pytest.raises(leases.Held, match=f"pid {os.getpid()}"), leases.Lease(tmp_path, "k", "c"):
            pass
        (path,) = (tmp_path / "running").glob("k.1-1.json")
        old = time.time() - leases.LOST - 1
        os.utime(path, (old, old))
        with leases.Lease(tmp_path, "k", "c"):  # takes over what nobody renews
            taken = path.read_bytes()
        assert not path.exists() and taken
    assert not list((tmp_path / "running").iterdir())  # and nothing of the making stays


def test_a_job_that_was_queued_again_finds_its_own_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    before = leases.Lease(tmp_path, "k", "c")
    before.__enter__()
    with leases.Lease(tmp_path, "k", "c"):
        pass
    with leases.Lease(tmp_path, "k", "c"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
        with pytest.raises(leases.Held, match="12_3"):
            leases.Lease(tmp_path, "k", "c").__enter__()
    before.__exit__()


def test_a_slow_one_takes_nothing_from_a_fast_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both found the same dead lease; the fast one has its own there when the slow one begins to take the dead one away."""
    dead = {"key": "k", "host": socket.gethostname(), "pid": 2**22 + 1, "since": 0.0, "command": "c"}
    path, take = tmp_path / "running" / "k.1-1.json", leases._take
    path.parent.mkdir()
    path.write_text(json.dumps(dead))
    fast, slow, moved = leases.Lease(tmp_path, "k", "fast"), leases.Lease(tmp_path, "k", "slow"), list[Path]()

    def late(of: Path, content: bytes) -> None:
        monkeypatch.setattr(leases, "_take", take)
        fast.__enter__()
        monkeypatch.setattr(os, "rename", lambda source, _: moved.append(source))
        take(of, content)

    monkeypatch.setattr(leases, "_take", late)
    with pytest.raises(leases.Held):
        slow.__enter__()
    assert not moved and json.loads(path.read_text())["command"] == "fast"
    fast.__exit__()
    assert not list(path.parent.iterdir())


def test_who_dies_taking_a_lease_away_is_not_waited_for(tmp_path: Path) -> None:
    dead = json.dumps({"key": "k", "host": socket.gethostname(), "pid": 2**22 + 1, "since": 0.0, "command": "c"})
    path = tmp_path / "running" / "k.1-1.json"
    path.parent.mkdir()
    path.write_text(dead)
    guard = path.with_name(f".dead-{hashlib.sha256(dead.encode()).hexdigest()[:16]}")
    guard.touch()
    old = time.time() - leases.LOST - 1
    os.utime(guard, (old, old))
    with leases.Lease(tmp_path, "k", "mine"):
        assert json.loads(path.read_text())["command"] == "mine"
    assert not list(path.parent.iterdir())


def test_of_many_who_ask_at_once_one_gets_the_lease(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from bench.store import leases\n"
        "store = Path(sys.argv[1]); print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n    leases.Lease(store, 'k', 'c').__enter__(); print('mine', flush=True)\n"
        "except leases.Held:\n    print('held', flush=True)\n"
        "sys.stdin.readline()"
    )
    (tmp_path / "running").mkdir()
    dead = {"key": "k", "host": socket.gethostname(), "pid": 2**22 + 1, "since": 0.0, "command": "c"}
    (tmp_path / "running" / "k.1-1.json").write_text(json.dumps(dead))  # all of them find it dead
    askers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for one in askers:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    for one in askers:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    said = [one.stdout.readline().strip() for one in askers if one.stdout is not None]
    for one in askers:
        one.communicate("\n", timeout=30)
    assert sorted(said) == ["held"] * 5 + ["mine"]


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
    epochs = found[0].config["recipe"]["epochs"]
    assert (fresh.trainings, fresh.epochs) == (1, epochs)
    seeds = plan.plan(cells(tmp_path, tmp_path / "none", "attack=transfer_seeds"), probe=False)
    assert (seeds.trainings, seeds.epochs) == (3, 3 * epochs)  # the victim's, and two that the attacker trains


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
    done = command("bench", "retry", *words)
    assert done.returncode == 0 and "2 cells, 1 to run" in done.stderr
    states = {each.key: each.state for each in status.status([first, second])}
    assert states == {first.key: "missing", second.key: "done"}
    with leases.Lease(tmp_path, first.key, "c"):
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
    assert done.returncode == 1 and done.stderr.strip() == "error: sttus is unknown; it is one of status, plan, cancel"
