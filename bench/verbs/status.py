"""What of a grid is done, running, failed and missing, from the store. Words of a grid; --json, --watch."""

import sys


def main(words: list[str]) -> None:
    from bench.sweep.__main__ import main as sweep

    sys.argv = ["defence-bench", "status", *words]
    sweep()
