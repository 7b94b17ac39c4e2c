"""A store that is no folder: cells, leases and artifacts at an address. fsspec's memory:// stands in for S3, which
tests/store/test_s3.py asks."""

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from bench.api import stored
from bench.config import grid, runtime
from bench.core import place
from bench.core.errors import BenchError
from bench.core.place import Remote
from bench.run import cell as runner
from bench.store import artifacts, images, leases, look, marks
from bench.store.records import Cell, Damaged
from bench.sweep import status
from tests.store.test_records import CONFIG, KEY, MADE, cell_of, rows
from tests.support import shipped


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def store() -> Iterator[Remote]:
    address = place.of(f"memory://{uuid.uuid4().hex}/runs")
    assert isinstance(address, Remote)
    yield address
    address.remove_tree()


def test_an_address_is_told_from_a_folder(tmp_path: Path) -> None:
    (cell,) = grid.cells(["store=s3://bucket/runs"])
    assert cell.runtime.store == Remote("s3://bucket/runs") and cell.runtime.artifacts == Remote(
        "s3://bucket/runs/artifacts"
    )
    assert place.of(f"file://{tmp_path}") == tmp_path == place.of(tmp_path)
    with pytest.raises(TypeError):
        open(Remote("s3://bucket/runs"))  # type: ignore  # noqa: SIM115
    with pytest.raises(BenchError, match="nowhere:// is no address that fsspec knows"):
        Cell(Remote("nowhere://a/b"), KEY).positions()
    with pytest.raises(BenchError, match="store= must name a folder, or an address"):
        runtime.RuntimeSpec.parse(cell.config | {"store": " "})


def test_a_cells_parts_are_read_joined_and_compacted(store: Remote) -> None:
    cell, other = cell_of(store), cell_of(store)
    cell.append(rows(0), MADE)
    other.append(rows(2), MADE)
    cell.append(rows(2), MADE | {"threads": 2})  # both writers had these two
    assert len(Cell(store, KEY).parts()) == 3 and Cell(store, KEY).positions() == {0, 1, 2, 3}
    before = Cell(store, KEY)
    assert before.complete(4) and not before.complete(5) and before.ledger()["unfinished"] == 3 + 6
    ledger, frame = before.ledger(), before.frame()
    cell.compact()
    after = Cell(store, KEY)
    assert len(after.parts()) == 1 and after.ledger() == ledger and after.frame().equals(frame)
    assert after.made()["data"] == MADE["data"] and "config:" in (after.folder / "cell.yaml").read_text()
    with pytest.raises(BenchError, match="begun with data sha256"):
        cell.append(rows(4), {**MADE, "data": "e" * 64})


def test_what_cant_be_believed_is_set_aside_and_a_lost_network_is_no_damage(
    store: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell_of(store)
    cell.append(rows(0), MADE)
    (cell.folder / f"part-{'0' * 32}.parquet").write_bytes(b"flipped")
    with pytest.raises(Damaged, match="set aside as part-0"):
        Cell(store, KEY).positions()
    assert Cell(store, KEY).positions() == {0, 1}
    assert (cell.folder / f"part-{'0' * 32}.parquet.damaged").read_bytes() == b"flipped"
    with monkeypatch.context() as patched:
        patched.setattr(place._file_system("memory"), "ls", _lost)
        with pytest.raises(BenchError, match=r"can't reach memory://.*ConnectionError: no route"):
            Cell(store, KEY).positions()
    assert Cell(store, KEY).positions() == {0, 1}


def _lost(*_: object, **__: object) -> None:
    raise ConnectionError("no route")


def test_a_part_is_fetched_once(store: Remote, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell_of(store).append(rows(0), MADE)
    (part,) = Cell(store, KEY).parts()
    (kept,) = (cache / "parts").rglob("part-*")
    with monkeypatch.context() as patched:
        patched.setattr(place._file_system("memory"), "cat_file", _lost)
        assert Cell(store, KEY).positions() == {0, 1}
        kept.write_bytes(b"flipped")  # a cache is believed no more than a store
        with pytest.raises(BenchError, match="can't reach"):
            Cell(store, KEY).positions()
    assert isinstance(part, Remote) and part.read_bytes() == kept.read_bytes()


def test_a_look_sees_one_moment(store: Remote) -> None:
    cell_of(store).append(rows(0), MADE)
    seen = look.at(store)
    other = cell_of(store, CONFIG | {"seed": 1})
    other.append(rows(0), MADE)
    assert stored.keys(seen) == [KEY] and stored.keys(store) == sorted([KEY, other.key])
    assert not Cell(seen, other.key).positions() and Cell(store, other.key).positions()
    cell_of(store).append(rows(2), MADE)
    cell_of(store).compact()  # takes away what the look has seen; its content is kept here
    assert Cell(seen, KEY).positions() == {0, 1}


def test_one_of_two_gets_the_lease_and_the_dead_leave_none(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    with leases.Lease(store, KEY, "bench") as _:
        assert [one.key for one in leases.running(store).values()] == [KEY] and leases.begun(store, KEY, (1, 1))
        with pytest.raises(leases.Held), leases.Lease(store, KEY, "bench"):
            pass
        with leases.Lease(store, KEY, "bench", (1, 2)):  # shards share a cell by intent
            assert len(leases.running(store)) == 2
    assert not leases.running(store) and not (store / "running").glob("*.json")
    dead = leases.Running(KEY, "elsewhere", 1, time.time() - 1000, "bench")
    (store / "running" / f"{KEY}.1-1.0.json").write_bytes(json.dumps(dead.__dict__).encode())
    with pytest.raises(leases.Held), leases.Lease(store, KEY, "bench"):
        pass
    monkeypatch.setattr(leases, "LOST", -1.0)  # nobody renewed it so long
    with leases.Lease(store, KEY, "bench"):
        assert len((store / "running").glob("*.json")) == 1


def test_of_two_who_see_each_other_both_step_back(store: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other's object appears between the write and the look, each time."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    written = leases.write_whole

    def both(path: Remote, content: bytes, advice: str = "") -> None:
        written(path, content, advice)
        other = leases.Running(KEY, "elsewhere", 1, time.time(), "bench")
        written(path.with_name(f"{KEY}.1-1.other.json"), json.dumps(other.__dict__).encode())

    monkeypatch.setattr(leases, "write_whole", both)
    with pytest.raises(leases.Held) as held, leases.Lease(store, KEY, "bench"):
        pass
    assert held.value.by.host == "elsewhere"
    assert [path.name for path in (store / "running").glob("*.json")] == [f"{KEY}.1-1.other.json"]


def test_marks(store: Remote) -> None:
    marks.fail(store, KEY, "no", "bench")
    marks.submit(store, "job", [[KEY]])
    failed = marks.failure(store, KEY)
    assert failed is not None and failed.line == "no" and marks.failures(store) == {KEY: failed}
    assert marks.submitted(store)[0].jobs == ((KEY,),)
    marks.forget(store, KEY)
    marks.withdraw(store, "job")
    assert not marks.failures(store) and not marks.submitted(store) and marks.failure(store, KEY) is None


def test_an_artifact_is_built_once_for_all_machines(
    store: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "weights").write_bytes(bytes([len(built)]) * 3)

    assert not artifacts.there(store, "weights", artifacts.key.of({"a": 1}))
    first = artifacts.need(store, "weights", {"a": 1}, build)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "another machine"))
    second = artifacts.need(store, "weights", {"a": 1}, build)
    assert len(built) == 1 and first != second and artifacts.there(store, "weights", first.name)
    assert (first / "weights").read_bytes() == (second / "weights").read_bytes() == b"\1\1\1"
    assert artifacts.need(store, "weights", {"a": 1}, build) == second
    assert not leases.running(store)


def test_a_grid_at_an_address_has_the_records_of_one_in_a_folder(
    store: Remote, tmp_path: Path, artifacts: Path
) -> None:
    words = [
        f"artifacts={artifacts}",
        *shipped.DIGITS,
        "samples.n=4",
        "threat.queries=20",
        "defense=none,rnd",
        "threads=1",
    ]
    there, here = (grid.cells([*words, f"store={at}"]) for at in (store, tmp_path))
    shipped.plant(store / "artifacts")
    runner.run(there[0].config | {"keep_images": True, "artifacts": str(store / "artifacts")})
    assert status.counts(status.status(there)) == {"missing": 1, "done": 1}
    runner.run(there[1].config)
    for one, other in zip(there, here, strict=True):
        runner.run(other.config)
        ours, theirs = (Cell(each.runtime.store, each.key).frame().drop(columns="seconds") for each in (one, other))
        assert len(ours) == 4
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
        assert len(Cell(store, one.key).parts()) == 1
    assert status.counts(status.status(there)) == {"done": 2}
    sample, image = images.load(store / "artifacts", there[0].key)
    assert len(sample) == len(image) > 0
    frame = stored.records(str(store))
    assert frame["cell"].nunique() == 4 and len(frame) == 16
