"""Prints and writes an experiment's tables and figures again, from stored results: `report +experiment=digits_square`."""

import sys

from bench.report import reporter


def main(words: list[str]) -> None:
    sys.argv[1:] = words
    reporter.main()
