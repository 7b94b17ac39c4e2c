"""Asks whether a defence really holds, and writes the verdict on one page: `audit defense=rnd model=… level=quick`."""

import sys

from bench.audit import __main__ as audit


def main(words: list[str]) -> None:
    sys.argv[1:] = words
    audit.main()
