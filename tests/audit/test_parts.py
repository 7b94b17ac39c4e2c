"""An audit that several processes share ends as one alone does, whatever becomes of them."""

import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench.audit import parts, verdict
from bench.audit.protocol import LEVELS
from bench.audit.run import Audit, audit
from bench.config import grid
from bench.run import progress
from bench.store.leases import Lease
from bench.store.records import Cell
from tests.audit.test_audit import FEW
from tests.support import shipped

TINY = replace(FEW, queries=60, steps=8)
WORDS = ["device=cpu", "threads=1", "threat.eps=1/12", "samples=12", *shipped.DIGITS]


def of(artifacts: Path, store: Path, *more: str) -> Audit:
    return audit([f"artifacts={artifacts}", f"store={store}", *WORDS, *more], TINY)


def said(found: Audit) -> list[tuple[str, int, int, int]]:
    return [(each.step.name, each.tried, each.broken, each.adds) for each in found.outcomes]


@pytest.fixture(scope="module")
def alone(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return of(artifacts, tmp_path_factory.mktemp("alone"))


def test_a_part_whose_fellows_never_come_does_theirs_too(alone: Audit, artifacts: Path, tmp_path: Path) -> None:
    found = of(artifacts, tmp_path, "shard=2/3")
    assert said(found) == said(alone) and sum(adds for *_, adds in said(found)) > 0
    one, two = (verdict.judge(each) for each in (found, alone))
    assert (one.headline, one.claimed, one.clean, one.flags) == (two.headline, two.claimed, two.clean, two.flags)
    assert "shard" not in verdict.plain(found, one)["command"]  # the page is all parts'


def test_it_says_for_whom_it_waits(
    alone: Audit, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process holds the other half of the clean pass, until the third look."""
    clean, looks = alone.cell.clean_key, list[float]()
    held = Lease(tmp_path, clean, "theirs", (1, 2))

    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            held.__exit__()

    monkeypatch.setattr(parts.time, "sleep", look)
    monkeypatch.setattr(progress, "EVERY_LOG", 0.0)
    with held:
        base = grid.cells([f"artifacts={artifacts}", f"store={tmp_path}", *WORDS, "attack=none", "shard=2/2"])[0]
        assert base.clean_key == clean
        parts.execute(base, range(12), "clean")
    assert len(looks) == 3 and Cell(tmp_path, clean).positions() == set(range(12))
    assert re.search(r"clean: waits for part 1/2 on .* \(pid \d+\)", capsys.readouterr().err)


@pytest.mark.dear
def test_of_two_parts_one_is_killed(alone: Audit, artifacts: Path, tmp_path: Path) -> None:
    words = [f"artifacts={artifacts}", *WORDS]

    def start(part: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bench.audit", *words, f"store={tmp_path}", f"shard={part}", "level=quick"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    first, second = start("1/2"), start("2/2")
    waits = time.monotonic() + 120
    while len(list((tmp_path / "cells").glob("*"))) < 4 and time.monotonic() < waits:
        time.sleep(0.1)
    first.kill()
    first.wait()  # a zombie would pass for alive
    out, _ = second.communicate(timeout=300)

    assert second.returncode == 0, out
    quick = LEVELS["quick"]
    found, whole = (audit([*words, f"store={each}"], quick) for each in (tmp_path, tmp_path / "alone"))
    assert said(found) == said(whole)
