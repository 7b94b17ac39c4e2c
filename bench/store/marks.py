"""What is known of a cell beside its records: who works on it now, and why it failed last. Files of a few lines below
<store>/running and <store>/failed; no record depends on them. Imports no torch.

A lease is renewed every BEAT seconds; one that has not been for LOST, or whose process is gone from this machine, is nobody's.
"""

import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.store.files import write_whole

BEAT, LOST = 20.0, 120.0
KEPT = "the cell goes on, but `status` will not know of it"


@dataclass(frozen=True)
class Running:
    key: str
    host: str
    pid: int
    since: float  # seconds since 1970
    command: str


@dataclass(frozen=True)
class Failure:
    key: str
    line: str
    when: float
    command: str


class Lease:
    """`with Lease(store, key, command):` as long as a process works on a cell."""

    def __init__(self, store: Path, key: str, command: str) -> None:
        about = Running(key, socket.gethostname(), os.getpid(), time.time(), command)
        self._file = store / "running" / f"{key}.{about.host}.{about.pid}.json"
        self._content, self._done = json.dumps(asdict(about)).encode(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        write_whole(self._file, self._content, KEPT)
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._done.set()
        self._file.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._done.wait(BEAT):
            try:
                os.utime(self._file)
            except OSError:  # a disk that is gone is told of by whoever writes records
                return


def running(store: Path) -> dict[str, Running]:
    """key -> who works on it, of leases that are alive."""
    found = {}
    for path in _files(store / "running"):
        content = _read(path)
        if content and _alive(path, one := Running(**content)):
            found[one.key] = one
    return found


def _alive(path: Path, one: Running) -> bool:
    try:
        if time.time() - path.stat().st_mtime > LOST:
            return False
        if one.host == socket.gethostname():
            os.kill(one.pid, 0)
    except PermissionError:  # somebody else's process, and alive
        return True
    except OSError:
        return False
    return True


def fail(store: Path, key: str, line: str, command: str) -> None:
    content = json.dumps(asdict(Failure(key, line, time.time(), command))).encode()
    write_whole(store / "failed" / f"{key}.json", content, KEPT)


def forget(store: Path, key: str) -> None:
    """The cell is there now."""
    (store / "failed" / f"{key}.json").unlink(missing_ok=True)


def failures(store: Path) -> dict[str, Failure]:
    found = (_read(path) for path in _files(store / "failed"))
    return {content["key"]: Failure(**content) for content in found if content}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def _read(path: Path) -> dict[str, Any] | None:
    """None for a file that has just gone, or that nobody finished."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
