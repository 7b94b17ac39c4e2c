"""What a flipped bit does to a cell's records: flips every bit of a part in turn (or every nth) and reads the cell.

    python scripts/bit_flips.py store=results/local key=<cell key> [every=1]

The store itself is only read: the flips are done to a copy.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench.core.errors import BenchError
from bench.store.records import Cell


def tries(cell: Cell, bits: Iterable[int]) -> dict[str, int]:
    """{refused, silent, same}: how many of the flips were refused, changed what is read unnoticed, or changed nothing. Bit i is
    bit i % 8 of byte i // 8 of the first part."""
    counts = {"refused": 0, "silent": 0, "same": 0}
    original, (path, *_) = cell.frame(), cell.parts()
    whole = path.read_bytes()
    for bit in bits:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(changed))
        try:
            counts["same" if cell.frame().equals(original) else "silent"] += 1
        except BenchError:
            counts["refused"] += 1
            for aside in path.parent.glob("*.damaged*"):
                aside.unlink()
    path.write_bytes(whole)
    return counts


def main(typed: list[str]) -> None:
    options = {name: value for name, _, value in (word.partition("=") for word in typed)}
    if not {"store", "key"} <= set(options) <= {"store", "key", "every"}:
        raise BenchError("bit_flips.py takes store=, key= and every=")
    source = Cell(Path(options["store"]), options["key"])
    if not source.parts():
        raise BenchError(f"no cell {source.key} with parts of its own in {source.store}")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(str(source.folder), Path(folder) / "cells" / source.key)
        cell = Cell(Path(folder), source.key)
        bits = range(0, 8 * len(cell.parts()[0].read_bytes()), int(options.get("every", "1")))
        print(f"{len(bits)} flips: {tries(cell, bits)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchError as error:
        sys.exit(f"error: {error}")
