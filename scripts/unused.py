"""Cells of the store that no experiment's table needs: what an older version of a method left behind.

    python scripts/unused.py [store=results] [delete=true] [experiment names]

Without names: every experiment that has a table in the store. Composing hundreds of cells takes minutes.
"""

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from bench.config import grid
from bench.core.errors import BenchError


def unused(store: Path, experiments: Iterable[str]) -> list[Path]:
    """Folders below store/cells whose key is no cell, and no clean pass of a cell, of these experiments."""
    needed: set[str] = set()
    for name in experiments:
        for cell in grid.cells([f"+experiment={name}"]):
            needed |= {cell.key, cell.clean_key}
    folders = (path for path in (store / "cells").iterdir() if path.is_dir())
    return sorted(folder for folder in folders if folder.name not in needed)


def reported(store: Path) -> list[str]:
    """Experiments with at least one table in the store."""
    names = sorted(path.stem for path in (grid.CONF / "experiment").glob("*.yaml"))
    return [name for name in names if any((store / "tables").glob(f"{name}-*.md"))]


def main(typed: list[str]) -> None:
    options = {name: value for name, is_option, value in (word.partition("=") for word in typed) if is_option}
    if foreign := set(options) - {"store", "delete"}:
        raise BenchError(
            f"unused.py has no option {', '.join(sorted(foreign))}; it takes store=, delete=true and names"
        )
    store = Path(options.get("store", "results"))
    if not (store / "cells").is_dir():
        raise BenchError(f"store={store} has no folder cells; name the folder that runs wrote to")
    experiments = [word for word in typed if "=" not in word] or reported(store)
    found = unused(store, experiments)
    print(f"{len(found)} of {len(list((store / 'cells').iterdir()))} cells serve none of: {', '.join(experiments)}")
    for folder in found:
        print(folder)
        if options.get("delete") == "true":
            shutil.rmtree(folder)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BenchError as error:
        sys.exit(f"error: {error}")
