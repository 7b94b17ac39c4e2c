"""The store under several processes: readers while another one compacts."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from bench.store.records import LEDGER, Cell

MADE = {"data": "d", "weights": "w", "replaces": [], "ledger": dict.fromkeys(LEDGER, 1)}


def rows(start: int) -> list[dict[str, object]]:
    return [
        {"sample": i, "position": i, "label": 0, "clean": True, "fooled": False, "queries": 3}
        for i in (start, start + 1)
    ]


def test_readers_see_every_part_once_while_another_process_compacts(tmp_path: Path) -> None:
    template, failures = Cell(tmp_path / "template", "k"), list[BaseException]()
    for start in range(0, 40, 2):
        template.append(rows(start), MADE)

    def read(cell: Cell, done: threading.Event) -> None:
        try:
            while not done.is_set():
                assert cell.positions() == set(range(40)) and cell.complete(40)
                assert cell.ledger()["attack"] == 20 and cell.made()["data"] == "d"
                assert cell.frame()["queries"].sum() == 120
        except BaseException as error:
            failures.append(error)

    for again in range(6):
        shutil.copytree(tmp_path / "template", tmp_path / str(again))
        cell, done = Cell(tmp_path / str(again), "k"), threading.Event()
        readers = [threading.Thread(target=read, args=(cell, done)) for _ in range(3)]
        for each in readers:
            each.start()
        cell.compact()
        done.set()
        for each in readers:
            each.join()
        assert len(list(cell.folder.glob("part-*"))) == 1
    assert not failures, failures[0]


def test_arrays_are_a_frames_columns_and_an_older_parts_missing_ones_are_null(tmp_path: Path) -> None:
    made = {"data": "d", "weights": "w", "ledger": {}, "replaces": []}
    cell = Cell(tmp_path, "k")
    rows = [
        {"sample": 9 - i, "position": i, "label": 0, "clean": True, "fooled": i % 2 == 0, "queries": None if i else 3}
        for i in range(6)
    ]
    cell.append(rows[3:], made)
    cell.append(rows[:3], made)
    for path in cell.parts():  # as before l1 was kept
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(["l1"]), path)
    names = ["sample", "position", "fooled", "queries", "l1"]
    for _ in range(2):
        frame, arrays = cell.frame(), cell.arrays(names)
        assert all(np.array_equal(arrays[name], frame[name].to_numpy(float), equal_nan=True) for name in names)
        assert arrays["position"].tolist() == list(range(6)) and np.isnan(arrays["l1"]).all()
        cell.append(rows[2:4], made)  # a killed run may have written a sample twice
