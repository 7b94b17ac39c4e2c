"""Ends the Slurm jobs of a grid's cells, be they pending or at work. Words of a grid."""

import sys


def main(words: list[str]) -> None:
    from bench.sweep.__main__ import main as sweep

    sys.argv = ["defence-bench", "cancel", *words]
    sweep()
