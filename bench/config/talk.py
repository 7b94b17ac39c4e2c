"""How much a command says and where its words are kept: --quiet, --json, and a log file a run. Imports no torch.

Both flags go through the environment, so that the jobs that a launcher starts know them."""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from bench.core.place import Place, on_disk

FLAGS = {"--quiet": "BENCH_QUIET", "--json": "BENCH_JSON"}


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


class _Both:
    """A stream whose finished lines are also written into a file; a line that a terminal rewrites counts as it ends."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self._stream, self._file, self._held = stream, file, ""

    def write(self, text: str) -> int:
        *lines, self._held = (self._held + text).split("\n")
        for line in lines:
            self._file.write(line.rpartition("\r")[2].replace("\x1b[K", "") + "\n")
        self._file.flush()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def log(store: Place) -> Iterator[None]:
    """What this process says meanwhile is also in <store>/logs/<time>-<process>.log, its command on the first line. A store that
    can't be written to is for others to complain of."""
    path = on_disk(store) / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8")
    except OSError:
        yield
        return
    with file:
        file.write(f"$ {shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}\n")
        both: list[Any] = [_Both(stream, file) for stream in (sys.stdout, sys.stderr)]
        with contextlib.redirect_stdout(both[0]), contextlib.redirect_stderr(both[1]):
            yield
