"""How much a command says and where its words are kept: --quiet, --json, and a log file a run. Imports no torch.

The flags and the log go through the environment, so that the jobs that a launcher starts know them."""

import contextlib
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from bench.core.place import Place, on_disk

FLAGS = {"--quiet": "BENCH_QUIET", "--json": "BENCH_JSON"}
LOG = "BENCH_LOG"  # process@machine:path of the log of the command that started this one


def taken(words: Sequence[str]) -> list[str]:
    """What was typed, without the flags, which are noted."""
    for flag, name in FLAGS.items():
        if flag in words:
            os.environ[name] = "1"
    return [word for word in words if word not in FLAGS]


def quiet() -> bool:
    """No word on progress: tables and errors alone. --json means it, too."""
    return bool(os.environ.get("BENCH_QUIET")) or as_json()


def as_json() -> bool:
    """Tables as one JSON object an entry and line."""
    return bool(os.environ.get("BENCH_JSON"))


def say(line: str) -> None:
    """A word on progress."""
    if not quiet():
        print(line, file=sys.stderr, flush=True)


STYLE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # what makes letters bold and erases lines on a terminal


class _Both:
    """A stream whose finished lines are also written into a file; a line that a terminal rewrites counts as it ends."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self._stream, self._file, self._held = stream, file, ""

    def write(self, text: str) -> int:
        *lines, self._held = (self._held + text).split("\n")
        for line in lines:
            self._file.write(STYLE.sub("", line.rstrip("\r").rpartition("\r")[2]) + "\n")
        self._file.flush()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def log(store: Place, typed: Sequence[str]) -> Iterator[None]:
    """What this process says meanwhile is also in <store>/logs/<time>-<process>.log, its command on the first line. A store that
    can't be written to is for others to complain of."""
    path = on_disk(store) / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.log"
    with _also_in(path) as file:
        if file:
            program = Path(sys.argv[0]).name
            command = ["python", "-m", "bench"] if program == "__main__.py" else [program]
            file.write(f"$ {shlex.join([*command, *typed])}\n")
            os.environ[LOG] = f"{os.getpid()}@{socket.gethostname()}:{path.resolve()}"
        try:
            yield
        finally:
            os.environ.pop(LOG, None)


@contextlib.contextmanager
def logged_by_parent() -> Iterator[None]:
    """What a job says in its own process goes into the log of the command that started it; on another machine into one beside
    it, <time>-<process>.<machine>.log, for two that append to one file of a shared disk would lose lines."""
    owner, _, name = os.environ.get(LOG, "").partition(":")
    pid, _, host = owner.partition("@")
    here = socket.gethostname()
    if not name or (pid, host) == (str(os.getpid()), here):
        yield
        return
    path = Path(name)
    with _also_in(path if host == here else path.with_suffix(f".{here}.log")):
        yield


@contextlib.contextmanager
def _also_in(path: Path) -> Iterator[TextIO | None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8")  # jobs append to it, too
    except OSError:
        yield None
        return
    with file:
        both: list[Any] = [_Both(stream, file) for stream in (sys.stdout, sys.stderr)]
        with contextlib.redirect_stdout(both[0]), contextlib.redirect_stderr(both[1]):
            yield file
