"""The store under several processes, and a store that was damaged: what can't be believed is named and set aside."""

import multiprocessing
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.config.key import of as key_of
from bench.core.errors import BenchError
from bench.store import parts
from bench.store.records import Cell, Damaged
from bench.store.schema import LEDGER
from scripts.bit_flips import tries

CONFIG = {"dataset": {"version": 1}, "attack": {"_target_": "a"}, "seed": 0}
KEY = key_of(CONFIG)
MADE = {"data": "d" * 64, "weights": "w" * 64, "ledger": dict.fromkeys(LEDGER, 1), "device": "cpu", "threads": 1}


def rows(start: int, n: int = 2) -> list[dict[str, Any]]:
    return [
        {"sample": i, "position": i, "label": 0, "clean": True, "fooled": False, "queries": 3, "rows_attack": 3}
        for i in range(start, start + n)
    ]


def cell_of(store: Path, config: dict[str, Any] = CONFIG) -> Cell:
    cell = Cell(store, key_of(config))
    cell.describe({"config": config, "key": cell.key, "samples_in_all": 40, "anytime": True, "command": "bench"})
    return cell


def test_readers_see_every_part_once_while_another_process_compacts(tmp_path: Path) -> None:
    template, failures = cell_of(tmp_path / "template"), list[BaseException]()
    for start in range(0, 40, 2):
        template.append(rows(start), MADE)

    def read(cell: Cell, done: threading.Event) -> None:
        try:
            while not done.is_set():
                assert cell.positions() == set(range(40)) and cell.complete(40)
                ledger = cell.ledger()
                assert ledger["filler"] == 20 and ledger["attack"] == 140 and cell.made()["data"] == "d" * 64
                assert cell.frame()["queries"].sum() == 120
        except BaseException as error:
            failures.append(error)

    for again in range(4):
        shutil.copytree(tmp_path / "template", tmp_path / str(again))
        cell, done = Cell(tmp_path / str(again), KEY), threading.Event()
        readers = [threading.Thread(target=read, args=(cell, done)) for _ in range(3)]
        for each in readers:
            each.start()
        cell.compact()
        done.set()
        for each in readers:
            each.join()
        assert len(list(cell.folder.glob("part-*"))) == 1
    assert not failures, failures[0]


def _add(store: Path, n: int) -> None:
    cell = cell_of(store)
    for start in range(n):
        cell.append(rows(2 * start), MADE)


def _compact(store: Path, stop: Any) -> None:
    while not stop.is_set():
        cell_of(store).compact()


def test_compacting_loses_and_doubles_nothing_that_another_process_adds(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    compacting = context.Process(target=_compact, args=(tmp_path, stop))
    adding = context.Process(target=_add, args=(tmp_path, 60))
    compacting.start()
    adding.start()
    adding.join(120)
    stop.set()
    compacting.join(60)
    assert adding.exitcode == compacting.exitcode == 0
    cell = Cell(tmp_path, KEY)
    assert len(cell.frame()) == 120 and cell.ledger()["filler"] == 60 and cell.ledger()["attack"] == 60 + 360
    cell.compact()
    assert len(cell.frame()) == 120 and cell.ledger()["filler"] == 60 and cell.ledger()["attack"] == 60 + 360


def test_rows_of_a_sample_that_two_writers_did_are_its_records_once(tmp_path: Path) -> None:
    cell = cell_of(tmp_path)
    cell.append(rows(0), MADE | {"ledger": {}})
    cell.append([row | {"seconds": 1.0} for row in rows(0)], MADE | {"ledger": {}})
    for _ in range(2):
        assert cell.ledger() == dict.fromkeys(LEDGER, 0) | {"attack": 6, "unfinished": 6}
        cell.compact()


# --- damage ----------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_changes_a_value_silently(tmp_path: Path) -> None:
    cell = cell_of(tmp_path)
    cell.append(rows(0, 40), MADE)
    counts = tries(cell, random.Random(0).sample(range(8 * cell.parts()[0].stat().st_size), 400))
    assert counts == {"refused": 400, "silent": 0, "same": 0}


def _part(cell: Cell) -> Path:
    part = cell.parts()[0]
    assert isinstance(part, Path)
    return part


def _swap(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def _other_cells_part(cell: Cell) -> None:
    other = cell_of(cell.store / "other", CONFIG | {"seed": 1})
    other.append(rows(0, 40), MADE)
    shutil.copy(_part(other), cell.folder)


def _claims(cell: Cell, **changed: Any) -> None:
    """A part made anew, with another word in what it says of itself, and the right sha256."""
    path = _part(cell)
    found = parts.read(path, cell.key)
    name, content = parts.encode(found.table(), found.about | changed)
    path.unlink()
    (cell.folder / name).write_bytes(content)


def _as_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "x").write_text("x")


def _as_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _garbled_footer(cell: Cell) -> None:
    content = b"PAR1" + b"\x00" * 64 + b"PAR1"
    _part(cell).unlink()
    import hashlib

    (cell.folder / f"part-{hashlib.sha256(content).hexdigest()[:32]}.parquet").write_bytes(content)


DAMAGES: dict[str, Callable[[Cell], Any]] = {
    "empty": lambda c: _part(c).write_bytes(b""),
    "one byte": lambda c: _part(c).write_bytes(b"P"),
    "cut by one byte": lambda c: _part(c).write_bytes(_part(c).read_bytes()[:-1]),
    "cut in the middle": lambda c: _part(c).write_bytes(_part(c).read_bytes()[:500]),
    "head lost": lambda c: _part(c).write_bytes(_part(c).read_bytes()[100:]),
    "a byte more": lambda c: _part(c).write_bytes(_part(c).read_bytes() + b"x"),
    "twice": lambda c: _part(c).write_bytes(_part(c).read_bytes() * 2),
    "zeros": lambda c: _part(c).write_bytes(bytes(len(_part(c).read_bytes()))),
    "a page of zeros": lambda c: _part(c).write_bytes(_part(c).read_bytes()[:200] + bytes(300) + _part(c).read_bytes()[500:]),
    "garbage": lambda c: _part(c).write_bytes(random.Random(0).randbytes(4000)),
    "text": lambda c: _part(c).write_text("not found\n"),
    "a web page": lambda c: _part(c).write_text("<html>502</html>"),
    "a pointer of git-lfs": lambda c: _part(c).write_text("version https://git-lfs\noid sha256:0\nsize 1\n"),
    "a folder in its place": lambda c: _as_folder(_part(c)),
    "a circle of links": lambda c: _as_loop(_part(c)),
    "a link into nothing": lambda c: (_part(c).rename(c.folder / "gone"), _as_loop_to(c)),
    "another's bytes": lambda c: _swap(_part(c), b"PAR1" + bytes(50) + b"PAR1"),
    "garbage with its own sha256": _garbled_footer,
    "a foreign part": _other_cells_part,
    "claims another key": lambda c: _claims(c, key="0" * 16),
    "claims other settings": lambda c: _claims(c, config=CONFIG | {"seed": 7}),
    "claims no settings": lambda c: _claims(c, config=None),
    "claims settings that are a list": lambda c: _claims(c, config=[1]),
    "an old part's name": lambda c: _part(c).rename(c.folder / "part-767c16b59ed7.parquet"),
    "a name by hand": lambda c: _part(c).rename(c.folder / "part-copy.parquet"),
    "a name with another's sha256": lambda c: _part(c).rename(c.folder / f"part-{'0' * 32}.parquet"),
    "the cell is a file": lambda c: (shutil.rmtree(c.folder), c.folder.write_text("x")),
    "the cell is a link into nothing": lambda c: (shutil.rmtree(c.folder), c.folder.symlink_to("nowhere")),
}  # fmt: skip


def _as_loop_to(cell: Cell) -> None:
    gone = cell.folder / "gone"
    (cell.folder / f"part-{'a' * 32}.parquet").symlink_to(gone)
    gone.unlink()


@pytest.mark.parametrize("name", DAMAGES)
def test_what_cant_be_believed_is_named_in_a_line_set_aside_and_counts_as_missing(tmp_path: Path, name: str) -> None:
    cell = cell_of(tmp_path)
    cell.append(rows(0, 40), MADE)
    DAMAGES[name](cell)
    before = sum(1 for _ in tmp_path.rglob("*"))
    with pytest.raises(Damaged) as raised:
        cell.complete(40)
    line = str(raised.value)
    assert KEY in line and "\n" not in line and "set aside as" in line
    assert sum(1 for _ in tmp_path.rglob("*")) == before  # nothing is deleted
    assert cell.complete(40) == (name == "a foreign part")  # its own part is still there
    cell_of(tmp_path).append(rows(0, 40), MADE)  # and it can be run again
    assert cell.complete(40) and cell.mend_copy() is None


COPIES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda p: p.unlink(), "missing"),
    "empty": (lambda p: p.write_bytes(b""), "empty"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-20]), "changed"),
    "garbage": (lambda p: p.write_bytes(random.Random(0).randbytes(400)), "not text"),
    "words": (lambda p: p.write_text("hello"), "another cell's"),
    "another cell's": (lambda p: p.write_text(p.read_text().replace(KEY, "0" * 16)), "another cell's"),
    "a key edited": (lambda p: p.write_text(p.read_text().replace(f"key: {KEY}", "key: 0")), "changed"),
    "samples edited": (lambda p: p.write_text(p.read_text().replace("all: 40", "all: 2")), "changed"),
    "anytime edited": (lambda p: p.write_text(p.read_text().replace("anytime: true", "anytime: false")), "changed"),
    "its head gone": (lambda p: p.write_text(p.read_text().partition("\n")[2]), "changed"),
    "a folder": (_as_folder, "not readable"),
    "a circle of links": (_as_loop, "not readable"),
}


@pytest.mark.parametrize("name", COPIES)
def test_cell_yaml_is_never_believed_and_written_anew(tmp_path: Path, name: str) -> None:
    cell = cell_of(tmp_path)
    cell.append(rows(0, 40), MADE)
    path, (damage, why) = cell.folder / "cell.yaml", COPIES[name]
    good = path.read_text()
    damage(path)
    assert cell.complete(None) and cell.description()["samples_in_all"] == 40
    line = cell.mend_copy()
    assert line and KEY in line and why in line and "\n" not in line
    assert "samples_in_all: 40" in path.read_text() and cell.mend_copy() is None
    cell_of(tmp_path)
    assert good.splitlines()[0].startswith("# a copy")


def test_leftovers_of_kills_say_nothing(tmp_path: Path) -> None:
    cell = cell_of(tmp_path)
    cell.append(rows(0, 40), MADE)
    (cell.folder / ".tmp-0123456789ab").write_bytes(b"half")
    (cell.folder / "part-1.parquet.damaged").write_bytes(b"set aside before")
    assert cell.complete(40) and cell.mend_copy() is None


def test_arrays_are_a_frames_columns_and_an_older_parts_missing_ones_are_null(tmp_path: Path) -> None:
    cell = cell_of(tmp_path)
    made = [
        {"sample": 9 - i, "position": i, "label": 0, "clean": True, "fooled": i % 2 == 0, "queries": None if i else 3}
        for i in range(6)
    ]
    cell.append(made[3:], MADE)
    cell.append(made[:3], MADE)
    for path in cell.parts():  # as before l1 was kept
        found = parts.read(path, KEY)
        name, content = parts.encode(found.table().drop_columns(["l1"]), found.about)
        path.unlink()
        (cell.folder / name).write_bytes(content)
    names = ["sample", "position", "fooled", "queries", "l1"]
    for _ in range(2):
        frame, arrays = cell.frame(), cell.arrays(names)
        assert all(np.array_equal(arrays[name], frame[name].to_numpy(float), equal_nan=True) for name in names)
        assert arrays["position"].tolist() == list(range(6)) and np.isnan(arrays["l1"]).all()
        cell.append(made[2:4], MADE)  # a killed run may have written a sample twice


def test_parts_of_two_networks_are_refused(tmp_path: Path) -> None:
    one, other = cell_of(tmp_path / "a"), cell_of(tmp_path / "b")
    one.append(rows(0), MADE)
    other.append(rows(2), MADE | {"weights": "v" * 64})
    shutil.copy(_part(other), one.folder)
    for read in (one.frame, lambda: one.complete(4), one.made):
        with pytest.raises(BenchError, match=r"parts of different weights \(v+, w+\)"):
            read()


def test_a_missing_cells_read_makes_no_folder(tmp_path: Path) -> None:
    cell = Cell(tmp_path, KEY)
    assert not cell.complete(1) and cell.frame().empty and cell.description() == {} and cell.positions() == set()
    assert not list(tmp_path.iterdir())
