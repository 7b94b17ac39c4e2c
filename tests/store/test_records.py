"""The store under several processes: readers while another one compacts."""

import shutil
import threading
from pathlib import Path

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
