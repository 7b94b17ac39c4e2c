"""A sweep whose store is an object store, moto's S3 on loopback: a killed writer, two at once, retry, ten thousand cells."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.config import grid
from bench.core import place
from bench.core.place import Remote
from bench.launch import elsewhere
from bench.report import reporter
from bench.store import leases, look, marks
from bench.store.records import Cell
from bench.sweep import status
from tests.support import s3, shipped

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("s3")]
CELLS = 10_000
GRID = ["samples=24", "threat.queries=300", "threat.eps=1/255", "defense=none,rnd", "numerics.rows=8", "slots=8"]
WORDS = [*GRID, "threads=1", "device=cpu", *shipped.DIGITS]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if why := s3.lacking():
        pytest.skip(why)
    with s3.running(many=CELLS) as named, pytest.MonkeyPatch.context() as patched:
        named["BENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))
        for name, value in named.items():
            patched.setenv(name, value)
        place._file_system.cache_clear()
        yield {**os.environ, **named}


def start(verb: str, *words: str, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench", verb, *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_killed_writers_two_writers_and_retry(
    environment: dict[str, str], tmp_path: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = place.of("s3://runs/grid")
    assert isinstance(store, Remote)
    words = [*WORDS, f"artifacts={artifacts}", f"store={store}"]
    cells = grid.cells(words)
    first = start("run", *words, environment=environment)
    try:
        end = time.monotonic() + 120
        while not (leases.running(store) and (store / "cells").glob("*/part-*")):
            assert time.monotonic() < end and first.poll() is None
            time.sleep(0.1)
    finally:
        first.kill()  # its lease stays, and says who held it
        first.communicate()
    both = [start("run", *words, environment=environment) for _ in range(2)]
    said = [each.communicate(timeout=240)[0] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert not leases.running(store) and not elsewhere.elsewhere(cells)
    local = [*WORDS, f"artifacts={artifacts}", f"store={tmp_path}"]
    alone = start("run", *local, environment=environment)
    alone.communicate(timeout=240)
    assert alone.returncode == 0
    for ours, theirs in zip(cells, grid.cells(local), strict=True):
        there, here = (Cell(each.runtime.store, each.key) for each in (ours, theirs))
        assert len(there.frame()) == 24 and there.frame().drop(columns="seconds").equals(
            here.frame().drop(columns="seconds")
        )
        assert len(there.parts()) == 1 and there.ledger() == here.ledger()  # no sample was done twice
    (part,) = Cell(store, cells[0].key).parts()
    part.unlink()
    marks.fail(store, cells[0].key, "no", "bench")
    assert status.counts(status.status(cells)) == {"failed": 1, "done": 1}
    again = start("retry", *words, environment=environment)
    assert "2 cells, 1 to run" in again.communicate(timeout=240)[0] and again.returncode == 0
    assert status.counts(status.status(cells)) == {"done": 2} and not marks.failures(store)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["report", *words])
        reporter.main()
    assert "defense=rnd" in capsys.readouterr().out.replace(" ", "")


def test_ten_thousand_cells_are_listed_in_seconds(environment: dict[str, str]) -> None:
    store = place.of("s3://runs/many")
    assert isinstance(store, Remote)
    began = time.monotonic()
    seen = look.at(store, [])
    took = time.monotonic() - began
    assert isinstance(seen, Remote) and len((seen / "cells").glob("*/part-*")) == CELLS
    assert len((seen / "cells").glob("*")) == CELLS and (seen / "cells" / f"{7:016x}").is_dir()
    assert took < 60, took  # 10 requests of 1,000 names each; a listing a cell would be 10,000
