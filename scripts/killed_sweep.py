"""python -m scripts.killed_sweep [--cells 200] [--share 0.05] [--launcher bench_joblib,bench_submitit_slurm] [--folder F] [words]

Jobs that die at random: a grid of tiny cells (digits, Square at many eps) runs through each launcher, and SIGKILL ends the
process of a share of the cells at random moments; then one `retry`, if any failed; then the records are compared with those of an
undisturbed run by the basic launcher. Where Slurm is asked for and none is named (SLURM_CONF), one is started as the tests do.
"""

import argparse
import contextlib
import heapq
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from bench.config import grid
from bench.store import leases, marks
from bench.store.records import Cell

SAMPLES, HALF = 8, 0.5
OWN = {
    "bench_submitit_slurm": ["hydra.launcher.mem_gb=1", "hydra.launcher.cpus_per_task=1"],
    "bench_joblib": ["hydra.launcher.n_jobs=2"],  # one alone would be this process's child itself
}
TINY = [f"samples={SAMPLES}", "threat.queries=20", "threads=1", "device=cpu", "recipe.epochs=5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--launcher", default="bench_joblib")
    parser.add_argument("--folder", help="kept, and what it has of the undisturbed run is not run again")
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    with contextlib.nullcontext(given.folder) if given.folder else tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sizes = ",".join(f"{i}/2550" for i in range(1, given.cells + 1))
        words = [*TINY, f"threat.eps={sizes}", f"artifacts={root / 'artifacts'}"]
        bench("run", [*TINY, "attack=none", f"artifacts={root / 'artifacts'}", f"store={root / 'first'}"])  # trains
        began = time.monotonic()
        bench("run", [*words, f"store={root / 'quiet'}"])
        print(
            f"undisturbed, by the basic launcher: {given.cells} cells in {time.monotonic() - began:.0f} s", flush=True
        )
        cells, whole = grid.cells(words), True
        expected = [_frame(root / "quiet", cell) for cell in cells]
        for launcher in given.launcher.split(","):
            store = root / launcher
            slurm = launcher == "bench_submitit_slurm"
            with _cluster(root / "slurm") if slurm else contextlib.nullcontext():
                chosen = [f"hydra/launcher={launcher}", *OWN.get(launcher, []), *given.words]
                told = run(words, chosen, store, given.share)
            same = sum(
                len(quiet) == SAMPLES and _frame(store, cell).equals(quiet)
                for cell, quiet in zip(cells, expected, strict=True)
            )
            whole = whole and same == given.cells
            for line in [*told, f"{same} of {given.cells} cells have the records of the undisturbed run"]:
                print(f"{launcher}: {line}", flush=True)
        sys.exit(not whole)


def run(words: list[str], launcher: list[str], store: Path, share: float) -> list[str]:
    """-> what happened, in lines."""
    began, words = time.monotonic(), [*words, f"store={store}", *launcher]
    with _Killer(store, share) as killer:
        first = bench("run", words)
    killed = f"{killer.killed} processes killed, {killer.amid} of them in a cell"
    failed = len(marks.failures(store))
    lines = [f"first run: {killed}, exit code {first}, {failed} cells failed, {time.monotonic() - began:.0f} s"]
    if first:
        began = time.monotonic()
        lines.append(f"retry: exit code {bench('retry', words)}, {time.monotonic() - began:.0f} s")
    files = sum(len(names) for _, _, names in os.walk(store))
    return [*lines, f"{files} files in the store"]


@contextlib.contextmanager
def _cluster(folder: Path) -> Iterator[None]:
    if "SLURM_CONF" in os.environ:
        yield
        return
    from tests.support import slurm  # a checkout's

    if why := slurm.lacking():
        sys.exit(f"error: {why}")
    with slurm.running(folder) as environment:
        os.environ["SLURM_CONF"] = environment["SLURM_CONF"]
        try:
            yield
        finally:
            del os.environ["SLURM_CONF"]


def bench(verb: str, words: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "bench", verb, *words], capture_output=True, check=False).returncode


class _Killer:
    """Of the cells that begin, a share is chosen; the process of each is killed a random part of HALF a second later, be it still
    at that cell, between two, or at the next."""

    def __init__(self, store: Path, share: float) -> None:
        self.store, self.share, self.killed, self.amid = store, share, 0, 0
        self._over, self._chance = threading.Event(), random.Random(0)
        self._seen, self._due = set[tuple[str, float]](), list[tuple[float, int, str]]()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "_Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.03):
            for one in leases.running(self.store).values():
                if (one.key, one.since) in self._seen:
                    continue
                self._seen.add((one.key, one.since))
                if self._chance.random() < self.share:
                    heapq.heappush(
                        self._due, (time.monotonic() + self._chance.uniform(0, HALF), one.pid, _born(one.pid))
                    )
            while self._due and self._due[0][0] <= time.monotonic():
                _, pid, born = heapq.heappop(self._due)
                if born and _born(pid) == born:  # no other process of the same number
                    self.amid += any(one.pid == pid for one in leases.running(self.store).values())
                    os.kill(pid, signal.SIGKILL)
                    self.killed += 1


def _born(pid: int) -> str:
    """When the process began, in the kernel's ticks; empty: there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _frame(store: Path, cell: grid.GridCell) -> pd.DataFrame:
    return Cell(store, cell.key).frame().drop(columns="seconds")


if __name__ == "__main__":
    main()
