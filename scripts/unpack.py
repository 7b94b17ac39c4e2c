"""The cells of a published experiment as a store of one's own, so that an experiment that grew runs its new cells alone and is
published whole again (scripts/publish.py). Trained networks are not in a pack: new cells of networks that are trained need the
artifacts of the run that was published, and are refused with others.

    python scripts/unpack.py experiment=unig_imagenet_small store=mine [published=results/published]
"""

import sys
from pathlib import Path

from bench.core.errors import BenchError
from bench.store import packs
from bench.store.files import write_whole
from bench.store.parts import encode

PUBLISHED = Path(__file__).resolve().parents[1] / "results" / "published"


def unpack(pack: Path, store: Path) -> int:
    """Writes each of the pack's cells as one part below store/cells; -> how many. Cells that the store has already are left."""
    if packs.files(store):
        raise BenchError(f"{store} holds published records, which are not changed; name another folder")
    loaded, written = packs.load(pack), 0
    for key in loaded.cells:
        folder = store / "cells" / key
        if any(folder.glob("part-*.parquet")):
            continue
        cell = loaded.cell(key)
        name, content = encode(cell.table(), cell.about)
        write_whole(folder / name, content)
        written += 1
    return written


def main(typed: list[str]) -> None:
    own = {name: value for name, _, value in (word.partition("=") for word in typed)}
    if not {"experiment", "store"} <= own.keys() or own.keys() - {"experiment", "store", "published"}:
        raise BenchError("unpack.py takes experiment=, store= and published=; the first two must be there")
    pack = Path(own.get("published", PUBLISHED)) / "cells" / f"{own['experiment']}.parquet"
    print(f"{unpack(pack, Path(own['store']))} cells of {pack.name} in {own['store']}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchError as error:
        sys.exit(f"error: {error}")
