"""Runs the cells of a grid that failed, and no other. Words of a grid."""

import sys


def main(words: list[str]) -> None:
    from bench.sweep.__main__ import main as sweep

    sys.argv = ["defence-bench", "retry", *words]
    sweep()
