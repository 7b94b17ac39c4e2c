"""What is noted of a cell beside its records: what a cluster was given, why it failed last. Files of a few lines below
<store>/submitted and <store>/failed; no record depends on them. Imports no torch."""

import json
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from bench.core.place import Place
from bench.store.files import write_whole
from bench.store.leases import KEPT, files


@dataclass(frozen=True)
class Failure:
    key: str
    line: str
    when: float
    command: str


@dataclass(frozen=True)
class Submission:
    """Jobs that Slurm was given at once: all bear this name, and the i-th task of the array does the i-th group of cells."""

    name: str
    host: str
    pid: int
    when: float
    jobs: tuple[tuple[str, ...], ...]  # keys, or key and shard


def submit(store: Place, name: str, jobs: Iterable[Iterable[str]]) -> Submission:
    """Noted before Slurm is asked, so that a kill in between loses no job."""
    one = Submission(name, socket.gethostname(), os.getpid(), time.time(), tuple(map(tuple, jobs)))
    write_whole(store / "submitted" / f"{name}.json", json.dumps(asdict(one)).encode(), KEPT)
    return one


def withdraw(store: Place, name: str) -> None:
    """None of its jobs is left."""
    (store / "submitted" / f"{name}.json").unlink(missing_ok=True)


def submitted(store: Place) -> list[Submission]:
    found = (_read(path) for path in files(store / "submitted"))
    return [
        Submission(**{**content, "jobs": tuple(map(tuple, content["jobs"]))})
        for content in found
        if content and "jobs" in content
    ]


def fail(store: Place, key: str, line: str, command: str) -> None:
    content = json.dumps(asdict(Failure(key, line, time.time(), command))).encode()
    write_whole(store / "failed" / f"{key}.json", content, KEPT)


def forget(store: Place, key: str) -> None:
    """The cell is there now."""
    (store / "failed" / f"{key}.json").unlink(missing_ok=True)


def failure(store: Place, key: str) -> Failure | None:
    content = _read(store / "failed" / f"{key}.json")
    return None if content is None else Failure(**content)


def failures(store: Place) -> dict[str, Failure]:
    found = (_read(path) for path in files(store / "failed"))
    return {content["key"]: Failure(**content) for content in found if content}


def _read(path: Place) -> dict[str, Any] | None:
    """None for a file that has just gone, or that nobody finished."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
