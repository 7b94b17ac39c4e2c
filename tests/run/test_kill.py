"""kill -9 at random moments: finished samples stay, and the run that follows ends like an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from bench.config.specs import CellSpec
from bench.run import cell, context
from bench.store.records import Cell

ROOT = Path(__file__).resolve().parents[2]
KILLS = 10

# parts at every finished row, so that each kill has something to lose
CODE = """
import sys, json
from bench.run import cell
from bench.run import context
context.PART_ROWS, context.PART_SECONDS = 1, 0.0
cell.run(json.loads(sys.argv[1]))
"""


@pytest.mark.dear  # CI has one kill: tests/run/test_device.py
def test_killed_ten_times_the_records_are_those_of_an_undisturbed_run(compose, tmp_path: Path) -> None:
    overrides = ["samples.n=150", "threat.queries=1500", "defense=rnd", "numerics.rows=8", "slots=16"]
    config = compose(*overrides)
    reference = Cell(Path(config["store"]), cell.run(config)).frame()
    config = compose(*overrides, store=tmp_path / "killed")
    record = Cell(Path(config["store"]), CellSpec.parse(config).key)
    chance, kept, killed = random.Random(0), 0, 0
    for _ in range(KILLS):
        before = len(list(record.folder.glob("part-*"))) if record.folder.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", CODE, json.dumps(config)], cwd=ROOT, start_new_session=True)
        while process.poll() is None and len(list(record.folder.glob("part-*"))) == before:
            time.sleep(0.01)  # until it attacks: a kill during the import of torch would show nothing
        time.sleep(chance.uniform(0, 0.5))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
        whole = record.frame()  # readable after every kill
        assert len(whole) >= kept  # and nothing finished is lost
        kept = len(whole)
    assert killed >= 5 and kept > 0
    cell.run(config)
    pd.testing.assert_frame_equal(
        reference.drop(columns="seconds"), record.frame().drop(columns="seconds"), check_exact=True
    )


def test_killed_while_compacting_nothing_is_counted_twice(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("samples.n=40", "threat.queries=300", "numerics.rows=8", "slots=8")
    record = Cell(Path(config["store"]), CellSpec.parse(config).key)
    monkeypatch.setattr(context, "PART_ROWS", 5)
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("part-"):
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        cell.run(config)
    monkeypatch.undo()
    assert len(list(record.folder.glob("part-*"))) > 2
    frame = record.frame()
    assert len(frame) == 40 and record.ledger()["attack"] == frame["queries"].sum()
    cell.run(config)
    assert len(record.parts()) == 1
