"""The line on the whole grid says what the store says."""

import io
import re
import time
from pathlib import Path

from bench.config import grid
from bench.run import cell
from bench.run.watch import Watch
from tests.support import shipped


def test_it_counts_what_the_store_holds_and_what_failed(tmp_path: Path, artifacts: Path) -> None:
    common = [
        f"store={tmp_path}",
        f"artifacts={artifacts}",
        "samples.n=5",
        "threat.queries=10",
        "threads=1",
        *shipped.DIGITS,
    ]
    cells = grid.cells([*common, "attack=square,signhunter,none", "threat.eps=1/12"])
    out = io.StringIO()
    with Watch(cells, lambda: 1, out, every=0.01) as watch:
        assert watch.line() == "grid: 0 of 3 cells done, 0 running, 1 failed"
        cell.run(cells[0].config)  # its clean pass is the third cell
        while "2 of 3" not in out.getvalue():
            time.sleep(0.01)
        assert re.fullmatch(r"grid: 2 of 3 cells done, 0 running, 1 failed, about \d+ min left", watch.line())
    said = out.getvalue()
    time.sleep(0.05)
    assert out.getvalue() == said  # its thread is gone
    assert len(said.splitlines()) == len({*said.splitlines()})  # nothing is said twice
