"""What a grid will cost before it runs: cells, trainings, passes, hours. Words of a grid; --json."""

import sys


def main(words: list[str]) -> None:
    from bench.sweep.__main__ import main as sweep

    sys.argv = ["defence-bench", "plan", *words]
    sweep()
