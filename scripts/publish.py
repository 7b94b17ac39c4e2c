"""Publishes an experiment's records: a pack of its cells, its tables and its figures, below results/published.

    python scripts/publish.py +experiment=digits_square store=mine [to=results/published]

Refused: an experiment that lacks cells, and cells that were made "with local changes" of the code, which nobody else can make
again.
"""

import sys
from pathlib import Path

from bench.config import grid
from bench.core.errors import BenchError
from bench.report import reporter, specification
from bench.store import packs
from bench.store.records import Cell

PUBLISHED = Path(__file__).resolve().parents[1] / "results" / "published"


def publish(typed: list[str], to: Path) -> Path:
    """Writes the pack, the tables and the figures below `to`, and returns the pack's path."""
    spec = specification.read(typed)
    if not spec.whole:
        raise BenchError("name one experiment as it is (+experiment=...); a changed or narrowed one is not published")
    cells = grid.cells(typed)
    store = cells[0].runtime.store
    wanted = {key: cell.spec.samples.n for cell in cells for key in (cell.key, cell.clean_key)}
    missing = [key for key, n in wanted.items() if not Cell(store, key).complete(n)]
    if missing:
        raise BenchError(
            f"{len(missing)} of {len(wanted)} cells are not complete in {store}, {missing[0]} for one; run them"
        )
    whole = {key: Cell(store, key).whole() for key in wanted}
    local = [key for key, (about, _) in whole.items() if "with local changes" in str(about.get("commit"))]
    if local:
        raise BenchError(
            f"{len(local)} of {len(whole)} cells were made with local changes of the code, {local[0]} for one; commit them and "
            "run the cells again into a new store"
        )
    path = packs.write(to / "cells", spec.name, whole)
    reporter.show(grid.cells([*(word for word in typed if not word.startswith("store=")), f"store={to}"]), spec)
    return path


def main(typed: list[str]) -> None:
    own = {"to": str(PUBLISHED)}
    own |= {name: value for name, _, value in (word.partition("=") for word in typed) if name in own}
    rest = [word for word in typed if word.partition("=")[0] not in own]
    print(publish(rest, Path(own["to"])))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchError as error:
        sys.exit(f"error: {error}")
