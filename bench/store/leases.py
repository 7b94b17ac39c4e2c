"""Who works on a cell now: files of a few lines below <store>/running; no record depends on them. Imports no torch.

A lease is one file that only one process can create. It is renewed every BEAT seconds; one that has not been for LOST, or whose
process is gone from this machine, is nobody's, and whoever comes next takes it over. In an object store everyone writes an object
of their own and looks who else has: of two that see each other both step back.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.core.errors import BenchError
from bench.core.place import Place, Remote
from bench.store.files import write_new, write_whole

BEAT, LOST = 20.0, 120.0
TRIES = 4
KEPT = "the cell goes on, but `status` will not know of it"
Shard = tuple[int, int]  # (3, 8): the third eighth of the cell; shards share a cell by intent


@dataclass(frozen=True)
class Running:
    key: str
    host: str
    pid: int
    since: float  # seconds since 1970
    command: str
    job: str | None = None  # Slurm's id of the job, 12_3
    shard: str = "1/1"

    @property
    def where(self) -> str:
        return f"on {self.host} (pid {self.pid}" + (f", Slurm job {self.job})" if self.job else ")")


class Held(Exception):
    """Another process works on the cell."""

    def __init__(self, by: Running) -> None:
        super().__init__(by.where)
        self.by = by


class Lease:
    """`with Lease(store, key, command):` as long as a process works on a cell. Raises Held."""

    def __init__(self, store: Place, key: str, command: str, shard: Shard = (1, 1)) -> None:
        part = "{}/{}".format(*shard)
        self._about = Running(key, socket.gethostname(), os.getpid(), time.time(), command, slurm_job(), part)
        self._file = _lease(store, key, shard)
        if isinstance(self._file, Remote):
            self._file = self._file.with_name(f"{self._file.stem}.{uuid.uuid4().hex[:12]}.json")
        self._content, self._done = json.dumps(asdict(self._about)).encode(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        if isinstance(self._file, Remote):
            self._claim(self._file)
            self._thread.start()
            return self
        for _ in range(TRIES * 10):
            if write_new(self._file, self._content, KEPT):
                self._thread.start()
                return self
            content = _bytes(self._file)
            other = _running(content)
            if content is not None and other is not None and self._others(other):
                raise Held(other)
            if content is not None:
                _take(self._file, content)
        raise BenchError(f"{self._file} comes and goes; look at that folder, or set store=<another folder>")

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._done.set()
        if _bytes(self._file) == self._content:
            self._file.unlink(missing_ok=True)

    def _claim(self, file: Remote) -> None:
        """Raises Held."""
        living = list[Running]()
        for again in range(TRIES):
            if again:  # both of two stepped back
                time.sleep(int(uuid.uuid4().hex[:4], 16) / 2**16 * again)
            write_whole(file, self._content, KEPT)
            living = [other for path in _rivals(file) if (other := self._rival(path)) is not None]
            if not living:
                return
            file.unlink(missing_ok=True)
            if min(one.since for one in living) < self._about.since - 1:
                break
        raise Held(living[0])

    def _rival(self, path: Remote) -> Running | None:
        """Who works there, if anyone does: of the dead nothing is kept."""
        other = _running(_bytes(path))
        if other is not None and not self._others(other, path):
            path.unlink(missing_ok=True)
            return None
        return other

    def _others(self, other: Running, path: Place | None = None) -> bool:
        """A job that was queued again finds its own lease."""
        mine = other.job is not None and other.job == self._about.job
        return not mine and _alive(path or self._file, other, _now(self._file.parent))

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            try:
                if not isinstance(self._file, Remote):
                    os.utime(self._file)
                elif self._file.exists():
                    self._file.write_bytes(self._content)
                else:  # taken for dead
                    return
            except BenchError:  # a network may come back
                continue
            except OSError:  # a disk that is gone is told of by whoever writes records
                return


def begun(store: Place, key: str, shard: Shard) -> bool:
    """Is there a lease of it, be it that of a dead process?"""
    file = _lease(store, key, shard)
    return file.exists() or (isinstance(file, Remote) and bool(file.parent.glob(f"{file.stem}.*.json")))


def _lease(store: Place, key: str, shard: Shard) -> Place:
    return store / "running" / f"{key}.{shard[0]}-{shard[1]}.json"


def _rivals(file: Remote) -> list[Remote]:
    """The other leases of the same cell: their names differ in the last word."""
    mine = file.stem.rpartition(".")[0]
    return [each for each in file.parent.glob(f"{mine}.*.json") if each != file]


def slurm_job() -> str | None:
    """Slurm's name of the job that this process is."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _take(path: Path, content: bytes) -> None:
    """Takes a lease that is nobody's away. One does so at a time: a slow one would take away what a fast one has put there since,
    and a third could put its own before that is back."""
    guard = path.with_name(f".dead-{sha256(content).hexdigest()[:16]}")
    if not write_new(guard, b""):
        with contextlib.suppress(OSError):
            if _now(path.parent) - guard.stat().st_mtime > LOST:  # who did it died
                guard.unlink()
        time.sleep(0.05)
        return
    try:
        if _bytes(path) == content:
            _put_aside(path, content)
    finally:
        guard.unlink(missing_ok=True)


def _put_aside(path: Path, content: bytes) -> None:
    aside = path.with_name(f".old-{uuid.uuid4().hex[:12]}")
    try:
        os.rename(path, aside)
    except OSError:
        return
    now = _bytes(aside)
    if now is not None and now != content:  # a shared disk told of an old one
        write_new(path, now)
    aside.unlink(missing_ok=True)


def running(store: Place) -> dict[Place, Running]:
    """The leases that are alive."""
    there = files(store / "running")
    now = _now(store / "running") if there else 0.0
    found = {path: _running(_bytes(path)) for path in there}
    return {path: one for path, one in found.items() if one is not None and _alive(path, one, now)}


def drop(path: Place, one: Running) -> None:
    """Ends the lease of a job that is known to be gone."""
    if isinstance(path, Remote):  # nobody else's has its name
        path.unlink(missing_ok=True)
    else:
        _take(path, json.dumps(asdict(one)).encode())


def _alive(path: Place, one: Running, now: float) -> bool:
    """now: by the clock that the file's times are of. A shared disk may tell times that are a minute old (BEAT + 60 < LOST)."""
    try:
        if now - (path.modified() if isinstance(path, Remote) else path.stat().st_mtime) > LOST:
            return False
    except FileNotFoundError:
        return False
    except OSError:  # a disk that does not answer says nothing of who works
        return True
    return one.host != socket.gethostname() or here(one.pid)


def here(pid: int) -> bool:
    """Is there such a process on this machine?"""
    try:
        os.kill(pid, 0)
    except PermissionError:  # somebody else's
        return True
    except OSError:
        return False
    return True


def _now(folder: Place) -> float:
    """By the clock of the machine that keeps the files, which may be another than this one's."""
    probe = folder / f".now-{uuid.uuid4().hex[:12]}"
    try:
        if isinstance(probe, Remote):
            probe.write_bytes(b"")
            return probe.modified()
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        probe.unlink(missing_ok=True)


def files(folder: Place) -> Sequence[Place]:
    """The JSON files of a folder that may not be there."""
    if isinstance(folder, Remote):
        return folder.glob("*.json")
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def _bytes(path: Place) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _running(content: bytes | None) -> Running | None:
    try:
        return None if content is None else Running(**json.loads(content))
    except (ValueError, TypeError):
        return None
