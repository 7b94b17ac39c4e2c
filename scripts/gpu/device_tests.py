"""Stage 1: the tests of tests/run/test_device.py on this device, counted as they end."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from scripts.gpu.task import Task, start

ROOT = Path(__file__).resolve().parents[2]
ENDED = re.compile(r"\b(PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b")
NAME = re.compile(r"test_device\.py::(\S+)")
SPARE = 8.0  # seconds for pytest to say what failed
WORKERS = 8  # most of a small test is Python


def run(task: Task) -> None:
    cuda = task.device.startswith("cuda")
    side_by_side = ["-n", str(min(WORKERS, os.cpu_count() or 1))] if cuda and importlib.util.find_spec("xdist") else []
    plain = ["-v", "--tb=short", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    which = ["-m", "gpu"] if cuda else ["-k", "cpu and square and none"]
    code = [sys.executable, "-u", "-m", "pytest", *plain, *side_by_side, "tests/run/test_device.py", *which]
    process = subprocess.Popen(code, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    signal.signal(signal.SIGALRM, lambda *_: process.send_signal(signal.SIGINT))  # pytest then says what failed
    signal.setitimer(signal.ITIMER_REAL, max(task.left - SPARE, 1.0))
    found: dict[str, Any] = {"passed": 0, "skipped": 0, "failed": [], "finished": False}
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)  # into the stage's log
        ended, name = ENDED.search(line), NAME.search(line)
        if (
            ended is None or name is None or line.startswith(("FAILED", "ERROR"))
        ):  # the summary at the end says them again
            continue
        if ended[1] in ("FAILED", "ERROR"):
            found["failed"].append(name[1])
        else:
            found["passed" if ended[1] == "PASSED" else "skipped"] += 1
        task.write("device_tests", found)
    rc = process.wait()
    task.write("device_tests", found | {"finished": rc in (0, 1), "rc": rc})
    sys.exit(0 if not found["failed"] and found["passed"] else 1)


if __name__ == "__main__":
    start(run)
