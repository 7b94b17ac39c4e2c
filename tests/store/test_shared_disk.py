"""What a file system shared by machines (NFS) does otherwise than a local one, played: lost answers, files that another machine
removed, folders that can't be synced, no locks, names listed that are gone."""

import errno
import os
import time
from pathlib import Path
from typing import Any

import filelock
import pytest

from bench.store import files, leases, parts, records
from bench.store.records import Cell
from tests.store.test_records import KEY, MADE, cell_of, rows


def fails(number: int) -> Any:
    def call(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return call


def test_a_link_whose_answer_was_lost_is_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asks again and hears that the name is taken: by itself."""
    link = os.link

    def twice(old: Path, new: Path) -> None:
        link(old, new)
        link(old, new)

    monkeypatch.setattr(os, "link", twice)
    assert files.write_new(tmp_path / "lease", b"mine")
    assert not files.write_new(tmp_path / "lease", b"another's") and (tmp_path / "lease").read_bytes() == b"mine"
    with leases.Lease(tmp_path, KEY, "bench"), pytest.raises(leases.Held), leases.Lease(tmp_path, KEY, "bench"):
        pass


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_folders_that_cant_be_synced(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def of_files(descriptor: int) -> None:
        fails(number)() if os.path.isdir(f"/proc/self/fd/{descriptor}") else fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files)
    files.write_whole(tmp_path / "a" / "b" / "c", b"1")
    assert (tmp_path / "a" / "b" / "c").read_bytes() == b"1"
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["c"]


def test_every_new_folder_is_synced_in_the_one_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    files.write_whole(tmp_path / "a" / "b" / "c", b"1")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_a_part_that_another_machine_compacted_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is still listed, and reading says ESTALE."""
    for start in (0, 2):
        cell_of(tmp_path).append(rows(start), MADE)
    old = {path.name for path in cell_of(tmp_path).folder.glob("part-*")}
    read, stale = Path.read_bytes, [2]

    def late(path: Path) -> bytes:
        if path.name in old and stale[0]:
            stale[0] -= 1
            if not stale[0]:
                monkeypatch.undo()
                cell_of(tmp_path).compact()
            fails(errno.ESTALE)()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", late)
    assert Cell(tmp_path, KEY).positions() == {0, 1, 2, 3}
    assert {path.suffix for path in cell_of(tmp_path).folder.iterdir()} == {".parquet", ".yaml"}
    monkeypatch.setattr(Path, "read_bytes", fails(errno.ESTALE))
    with pytest.raises(FileNotFoundError):
        parts.read(tmp_path / f"part-{'0' * 32}.parquet", KEY)


def test_names_that_are_listed_after_they_are_gone_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, waited = cell_of(tmp_path), list[float]()
    cell.append(rows(0), MADE)
    ghost = cell.folder / f"part-{'0' * 32}.parquet"
    listed = Cell._files
    monkeypatch.setattr(
        Cell, "_files", lambda self, anew=False: [*listed(self, anew), *([ghost] if sum(waited) < 30 else [])]
    )
    monkeypatch.setattr(records.time, "sleep", waited.append)
    assert Cell(tmp_path, KEY).positions() == {0, 1}
    assert 30 <= sum(waited) < 60


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_without_locks_a_lease_guards_the_compaction(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    cell = cell_of(tmp_path)
    for start in (0, 2):
        cell.append(rows(start), MADE)
    with leases.Lease(tmp_path, f"{KEY}.parts", "compact"):
        cell.compact()  # another does it
    assert len(cell.parts()) == 2
    cell.compact()
    assert len(cell.parts()) == 1 and cell.positions() == {0, 1, 2, 3} and not leases.running(tmp_path)


def test_a_lease_on_a_disk_that_does_not_answer_is_somebodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, one = tmp_path / "lease", leases.Running(KEY, "elsewhere", 1, time.time(), "bench")
    path.write_bytes(b"{}")
    assert leases._alive(path, one, time.time()) and not leases._alive(path, one, time.time() + leases.LOST + 1)
    monkeypatch.setattr(Path, "stat", fails(errno.ETIMEDOUT))
    assert leases._alive(path, one, time.time())
    monkeypatch.setattr(Path, "stat", fails(errno.ENOENT))
    assert not leases._alive(path, one, time.time())
