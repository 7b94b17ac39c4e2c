"""scripts/unpack.py and publish.py: a pack as a store of one's own and back again is the same pack, with the same tables."""

import shutil
from pathlib import Path

import pytest

from bench.core.errors import BenchError
from bench.store import packs
from bench.store.parts import encode
from bench.store.records import Cell
from scripts import publish, unpack

NAME = "digits_square"
PACK = unpack.PUBLISHED / "cells" / f"{NAME}.parquet"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    assert unpack.unpack(PACK, tmp_path / "own") == len(packs.load(PACK).cells) > 8
    return tmp_path / "own"


def test_there_and_back_is_the_same(store: Path, tmp_path: Path) -> None:
    typed = [f"+experiment={NAME}", f"store={store}"]
    made = packs.load(publish.publish(typed, tmp_path / "to"))
    old = packs.load(PACK)
    assert made.cells.keys() == old.cells.keys()
    for key, about in old.cells.items():
        assert made.cell(key).table().equals(old.cell(key).table())
        now = made.cells[key]
        assert {name: now[name] for name in about if name != "ledger"} == {n: about[n] for n in about if n != "ledger"}
        assert now["ledger"].items() >= about["ledger"].items()
    table = f"{NAME}-square.csv"
    assert (tmp_path / "to" / "tables" / table).read_text() == (publish.PUBLISHED / "tables" / table).read_text()
    assert unpack.unpack(PACK, store) == 0  # what is there stays
    with pytest.raises(BenchError, match="holds published records"):
        unpack.unpack(PACK, tmp_path / "to")


def test_what_lacks_cells_or_commits_is_refused(store: Path, tmp_path: Path) -> None:
    typed = [f"+experiment={NAME}", f"store={store}"]
    with pytest.raises(BenchError, match="a changed or narrowed one is not published"):
        publish.publish([*typed, "seed=1"], tmp_path / "to")
    key = max(packs.load(PACK).cells)
    about, rows = Cell(store, key).whole()
    shutil.rmtree(store / "cells" / key)
    with pytest.raises(BenchError, match=f"1 of .* cells are not complete in .*, {key} for one"):
        publish.publish(typed, tmp_path / "to")
    name, content = encode(rows, {**about, "commit": "0123 with local changes"})
    (store / "cells" / key).mkdir()
    (store / "cells" / key / name).write_bytes(content)
    with pytest.raises(BenchError, match=f"made with local changes of the code, {key} for one"):
        publish.publish(typed, tmp_path / "to")
    assert not (tmp_path / "to").exists()
