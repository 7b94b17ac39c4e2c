"""Published records: a pack reads as the cells that went into it, is verified, and is never changed by a run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.config.overrides import without_places
from bench.core.errors import BenchError
from bench.store import packs
from bench.store.records import Cell
from tests.store.test_records import CONFIG, KEY, MADE, cell_of, rows


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A store with one pack of two cells."""
    first, second = cell_of(tmp_path / "own"), cell_of(tmp_path / "own", CONFIG | {"seed": 1})
    first.append(rows(20, 20), MADE)
    first.append(rows(0, 20), MADE)
    second.append(rows(0, 3), MADE | {"weights": "v" * 64})
    packs.write(tmp_path / "published" / "cells", "mine", {c.key: c.whole() for c in (first, second)})
    return tmp_path / "published"


def test_a_pack_reads_as_its_cells(published: Path) -> None:
    own = Cell(published.parent / "own", KEY)
    cell = Cell(published, KEY)
    pd.testing.assert_frame_equal(cell.frame(), own.frame(), check_exact=True)
    assert cell.ledger() == own.ledger() and cell.description() == own.description()
    assert cell.complete(40) and cell.complete(None) and not cell.complete(41) and cell.parts() == []
    assert np.array_equal(cell.arrays(["sample", "position", "queries"])["queries"], np.full(40, 3))
    assert len(Cell(published, cell_of(published.parent / "x", CONFIG | {"seed": 1}).key).frame()) == 3
    assert not Cell(published, "0" * 16).complete(1)


def test_a_pack_names_no_place_of_the_machine_that_made_it() -> None:
    said = "python -m bench threat.eps='1/2' store='/a b/c' defense=rnd artifacts=/a dataset.root=\"/d e\" seed=1"
    assert without_places(said) == "python -m bench threat.eps='1/2' defense=rnd seed=1"
    assert (
        without_places("python -m bench model.own.file=/a restore=1") == "python -m bench model.own.file=/a restore=1"
    )


def test_a_run_does_not_change_published_records(published: Path) -> None:
    before = sorted((path, path.read_bytes()) for path in published.rglob("*") if path.is_file())
    cell_of(published)
    cell = Cell(published, KEY)
    cell.compact()
    with pytest.raises(BenchError, match="published records, which a run does not change; set store="):
        cell_of(published, CONFIG | {"seed": 9})
    with pytest.raises(BenchError, match="published records, which a run does not change; set store="):
        cell.append(rows(40), MADE)
    assert sorted((path, path.read_bytes()) for path in published.rglob("*") if path.is_file()) == before


def test_of_a_cell_that_two_experiments_share_the_longer_one_is_read(published: Path) -> None:
    fewer = cell_of(published.parent / "fewer")
    fewer.append(rows(0, 10), MADE)
    packs.write(published / "cells", "first", {fewer.key: fewer.whole()})  # before "mine" by name
    assert len(Cell(published, KEY).frame()) == 40


@pytest.mark.parametrize("byte", [0, 700, -5])
def test_a_damaged_pack_is_a_line_and_left_where_it_is(published: Path, byte: int) -> None:
    path = published / "cells" / "mine.parquet"
    content = bytearray(path.read_bytes())
    content[byte] ^= 4
    path.write_bytes(content)
    with pytest.raises(BenchError, match=r"mine\.parquet is not what SHA256SUMS says"):
        Cell(published, KEY).frame()
    assert path.exists()


def test_a_pack_that_no_sum_names_is_not_believed(published: Path) -> None:
    (published / "cells" / packs.SUMS).write_text("")
    with pytest.raises(BenchError, match="is not what SHA256SUMS says"):
        Cell(published, KEY).complete(1)
