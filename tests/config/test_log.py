"""Where the words of a command and of its jobs are found afterwards."""

import os
import socket
import sys
from pathlib import Path

import pytest

from bench.config import talk


def test_a_jobs_words_are_in_the_log_of_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with talk.log(tmp_path, ["a=b"]):
        print("\x1b[1mthe command\x1b[0m")
        with talk.logged_by_parent():  # a job in the same process is not logged twice
            print("a job here")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with talk.logged_by_parent():
            print("a job\rrewritten", file=sys.stderr)
        name, word = socket.gethostname(), os.environ[talk.LOG]
    assert talk.LOG not in os.environ
    (log,) = (tmp_path / "logs").iterdir()
    # here the command's stderr is the job's, too, and holds its words a second time
    assert log.read_text().splitlines()[1:] == ["the command", "a job here", "rewritten", "rewritten"]

    monkeypatch.setenv(talk.LOG, word)
    monkeypatch.setattr(socket, "gethostname", lambda: f"not-{name}")
    with talk.logged_by_parent():
        print("far away")
    assert log.with_suffix(f".not-{name}.log").read_text() == "far away\n"


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").write_text("in the way")
    with talk.log(tmp_path, ["a=b"]), talk.logged_by_parent():
        print("said all the same")
    assert capsys.readouterr().out == "said all the same\n"
