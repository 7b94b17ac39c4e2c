"""How long the status of many cells and a report over them take, and how much memory: a synthetic grid and store.

    python -m scripts.report_scale [cells=1000,10000] [images=100] [folder=<for the store>]

The grid has 10 victims, each with one clean pass, under attacks with one record an image; the table has a row a victim, a
column an attack and a per-image worst case over ten of them. Before it a grid of as many cells is expanded from words, and the
store's files are counted.
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.config import grid
from bench.config.grid import GridCell
from bench.report.records import Records
from bench.report.select import CellIndex
from bench.report.table import build
from bench.report.table_specs import Column, Row, TableSpec
from bench.store import copies, parts
from bench.store.schema import SCHEMA
from bench.sweep import status

VICTIMS = 10
MADE = {"data": "d", "weights": "w", "device": "cpu", "threads": 1, "replaces": [], "ledger": {}}


def synthetic(store: Path, cells: int, images: int) -> list[GridCell]:
    """Cells of a grid victims x attacks whose records lie in the store."""
    (model,) = grid.cells([f"store={store}", f"samples.n={images}"])
    generator, found, texts = np.random.default_rng(0), [], dict[int, str]()
    for i in range(cells):
        victim, attack = i % VICTIMS, i // VICTIMS
        config = {**model.config, "threat": {**model.config["threat"], "queries": attack + 1}}
        choices = model.choices | {"defense": f"defense_{victim}"}
        spec = model.spec.replace(threat=replace(model.spec.threat, queries=attack + 1), seed=victim)
        cell = replace(model, config=config, choices=choices, spec=spec, key=spec.key, clean_key=spec.clean_key)
        found.append(cell)
        _write(store, cell.key, images, generator, spec.identity(), texts)
        if attack == 0:
            _write(store, cell.clean_key, images, generator, spec.clean_identity(), {})
    return found


def _write(
    store: Path, key: str, images: int, generator: np.random.Generator, config: Mapping[str, Any], texts: dict[int, str]
) -> None:
    """As a run leaves a cell, but nothing is synced, and cell.yaml is a copy of the first cell's: only a sweep looks at it."""
    clean = generator.random(images) < 0.9
    fooled = clean & (generator.random(images) < 0.5)
    rows = [
        {"sample": i, "position": i, "label": 0, "clean": bool(c), "fooled": bool(f), "queries": 5, "margin": 0.1}
        for i, (c, f) in enumerate(zip(clean, fooled, strict=True))
    ]
    about = {"key": key, "samples_in_all": images, "anytime": False, "config": dict(config)}
    name, content = parts.encode(pa.Table.from_pylist(rows, SCHEMA), {**about, **MADE})
    folder = store / "cells" / key
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    if not texts:
        copies.write(folder, key, about)
        texts[0] = (folder / copies.NAME).read_text()
    else:
        (folder / copies.NAME).write_text(texts[0])


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


def _since(begun: float, busy: float) -> str:
    return f"{time.perf_counter() - begun:.1f} s ({time.process_time() - busy:.1f} s of CPU)"


def main(typed: list[str]) -> None:
    options = dict(word.split("=", 1) for word in typed)
    images = int(options.get("images", 100))
    for count in map(int, options.get("cells", "1000,10000").split(",")):
        begun, busy = time.perf_counter(), time.process_time()
        queries = ",".join(str(i + 1) for i in range(count // VICTIMS))
        seeds = ",".join(map(str, range(VICTIMS)))
        expanded = len(grid.cells([f"threat.queries={queries}", f"seed={seeds}"]))
        print(f"{expanded} cells: grid expanded in {_since(begun, busy)}", flush=True)
        with tempfile.TemporaryDirectory(dir=options.get("folder")) as folder:
            begun = time.perf_counter()
            cells = synthetic(Path(folder), count, images)
            files = sum(len(names) for _, _, names in os.walk(folder))
            print(f"  a store of {files} files, built in {time.perf_counter() - begun:.1f} s", flush=True)
            begun, busy = time.perf_counter(), time.process_time()
            states = status.counts(status.status(cells))
            asked = _since(begun, busy)
            assert states == {"done": count}, status.status(cells)[0]
            begun, busy = time.perf_counter(), time.process_time()
            built = build("scale", table(count), CellIndex(cells), Records())
            took = _since(begun, busy)
            assert all(entry.ours for entry in built.entries.values())
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"{count} cells of {images} images: status {asked}", flush=True)
            print(f"  report {took}, {peak:.2f} GiB at most in this process", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
