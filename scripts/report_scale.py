"""How long the status of many cells and a report over them take, and how much memory: a synthetic grid and store.

    python -m scripts.report_scale [cells=1000,10000] [images=100] [folder=<for the store>]

The grid has 10 victims, each with one clean pass, under attacks with one record an image; the table has a row a victim, a
column an attack and a per-image worst case over ten of them. Hydra composes
nothing of it: the expansion of grids has its own measure.
"""

import copy
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.config import grid
from bench.config.grid import GridCell
from bench.report.records import Records
from bench.report.select import CellIndex
from bench.report.table import build
from bench.report.table_specs import Column, Row, TableSpec
from bench.store.records import Cell
from bench.sweep import status

VICTIMS = 10
MADE = {"data": "d", "weights": "w", "device": "cpu", "threads": 1, "replaces": [], "ledger": {}}


def synthetic(store: Path, cells: int, images: int) -> list[GridCell]:
    """Cells of a grid victims x attacks whose records lie in the store."""
    (model,) = grid.cells([f"store={store}", f"samples.n={images}"])
    generator, found = np.random.default_rng(0), []
    for i in range(cells):
        victim, attack = i % VICTIMS, i // VICTIMS
        config: dict[str, Any] = copy.deepcopy(model.config)
        config["threat"]["queries"] = attack + 1
        choices = model.choices | {"defense": f"defense_{victim}"}
        spec = model.spec.replace(threat=replace(model.spec.threat, queries=attack + 1), seed=victim)
        cell = replace(model, config=config, choices=choices, spec=spec, key=spec.key, clean_key=spec.clean_key)
        found.append(cell)
        _write(store, cell.key, images, generator, spec.identity())
        if attack == 0:
            _write(store, cell.clean_key, images, generator, spec.clean_identity())
    return found


def _write(store: Path, key: str, images: int, generator: np.random.Generator, config: Mapping[str, Any]) -> None:
    clean = generator.random(images) < 0.9
    fooled = clean & (generator.random(images) < 0.5)
    rows = [
        {"sample": i, "position": i, "label": 0, "clean": bool(c), "fooled": bool(f), "queries": 5, "margin": 0.1}
        for i, (c, f) in enumerate(zip(clean, fooled, strict=True))
    ]
    about = {"key": key, "samples_in_all": images, "anytime": False, "config": dict(config)}
    cell = Cell(store, key)
    cell.describe(about)
    cell.append(rows, MADE)


def table(cells: int) -> TableSpec:
    attacks = range(cells // VICTIMS)
    columns = [
        Column(name=f"attack {i}", metric="robust_acc", where={"threat.queries": i + 1}, at=None) for i in attacks
    ]
    names = tuple(column.name for column in columns[:10])
    columns += [Column(name="clean acc", metric="clean_acc", at=None)]
    columns += [Column(name="worst case", metric="per_image_worst", of=names, at=None)]
    rows = [Row(name=f"victim {i}", where={"defense": f"defense_{i}"}) for i in range(VICTIMS)]
    return TableSpec(title="scale", rows=tuple(rows), columns=tuple(columns))


def main(typed: list[str]) -> None:
    options = dict(word.split("=", 1) for word in typed)
    images = int(options.get("images", 100))
    for count in map(int, options.get("cells", "1000,10000").split(",")):
        with tempfile.TemporaryDirectory(dir=options.get("folder")) as folder:
            cells = synthetic(Path(folder), count, images)
            begun, busy = time.perf_counter(), time.process_time()
            states = status.counts(status.status(cells))
            asked = time.perf_counter() - begun
            assert states == {"done": count}, status.status(cells)[0]
            begun, busy = time.perf_counter(), time.process_time()
            built = build("scale", table(count), CellIndex(cells), Records())
            took, busy = time.perf_counter() - begun, time.process_time() - busy
            assert all(entry.ours for entry in built.entries.values())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"{count} cells of {images} images: status {asked:.1f} s", flush=True)
            print(f"  report {took:.1f} s ({busy:.1f} s of CPU), {peak:.2f} GiB at most in this process", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
