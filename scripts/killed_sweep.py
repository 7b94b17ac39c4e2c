"""python -m scripts.killed_sweep [--cells 200] [--share 0.05] [--launcher bench_joblib] [words]: jobs that die at random.

A grid of tiny cells (digits, Square at many eps) runs through a launcher while a share of its jobs is killed by SIGKILL at random
moments; then `retry`, if any failed; then the records are compared with an undisturbed run by the basic launcher.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd

from bench.config import grid
from bench.store import marks
from bench.store.records import Cell

TINY = ["samples=20", "threat.queries=50", "threads=1", "device=cpu", "recipe.epochs=5"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--launcher", default="bench_joblib")
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sizes = ",".join(f"{i}/2550" for i in range(1, given.cells + 1))
        words = [*TINY, f"threat.eps={sizes}", f"artifacts={root / 'artifacts'}"]
        bench("run", [*TINY, "attack=none", f"artifacts={root / 'artifacts'}", f"store={root / 'first'}"])  # trains
        told = run(words, [f"hydra/launcher={given.launcher}", *given.words], root / "killed", given.share)
        print("\n".join(told), flush=True)
        began = time.monotonic()
        bench("run", [*words, f"store={root / 'quiet'}"])
        print(f"undisturbed, by the basic launcher: {time.monotonic() - began:.0f} s")
        same = sum(_frame(root / "killed", cell).equals(_frame(root / "quiet", cell)) for cell in grid.cells(words))
        print(f"{same} of {given.cells} cells have the records of the undisturbed run")
        sys.exit(same != given.cells)


def run(words: list[str], launcher: list[str], store: Path, share: float) -> list[str]:
    """-> what happened, in lines."""
    began, words = time.monotonic(), [*words, f"store={store}", *launcher]
    with _Killer(store, share) as killer:
        first = bench("run", words)
    lines = [f"first run: {killer.killed} jobs killed, exit code {first}, {len(marks.failures(store))} cells failed, "
             f"{time.monotonic() - began:.0f} s"]  # fmt: skip
    if first:
        began = time.monotonic()
        lines.append(f"retry: exit code {bench('retry', words)}, {time.monotonic() - began:.0f} s")
    return lines


def bench(verb: str, words: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "bench", verb, *words], capture_output=True, check=False).returncode


class _Killer:
    """Kills a share of the processes that take a lease, each at a random moment of its first second."""

    def __init__(self, store: Path, share: float) -> None:
        self.store, self.share, self.killed = store, share, 0
        self._over, self._chance, self._seen = threading.Event(), random.Random(0), set[tuple[str, float]]()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "_Killer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            for one in marks.running(self.store).values():
                if (one.key, one.since) in self._seen:
                    continue
                self._seen.add((one.key, one.since))
                if self._chance.random() < self.share:
                    self._strike(one)

    def _strike(self, one: marks.Running) -> None:
        time.sleep(self._chance.uniform(0, 0.2))
        if one in marks.running(self.store).values():
            os.kill(one.pid, signal.SIGKILL)
            self.killed += 1


def _frame(store: Path, cell: grid.GridCell) -> pd.DataFrame:
    return Cell(store, cell.key).frame().drop(columns="seconds")


if __name__ == "__main__":
    main()
