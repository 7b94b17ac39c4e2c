"""Stage 1: the tests of tests/run/test_device.py on this device."""

import subprocess
import sys
from pathlib import Path

from scripts.gpu.task import Task, start

ROOT = Path(__file__).resolve().parents[2]


def run(task: Task) -> None:
    which = {"cuda": ["-m", "gpu"], "cpu": ["-k", "cpu and square and none"]}[task.device.partition(":")[0]]
    code = [
        *(sys.executable, "-m", "pytest", "-q", "-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider"),
        "tests" if task.device != "cpu" else "tests/run/test_device.py",
        *which,
    ]  # fmt: skip
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    task.write("device_tests", {"summary": lines[-1] if lines else done.stderr[-500:], "rc": done.returncode})
    if done.returncode:
        print("\n".join(lines[-60:]))
        sys.exit(done.returncode)


if __name__ == "__main__":
    start(run)
