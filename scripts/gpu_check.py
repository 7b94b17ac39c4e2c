"""What ten minutes of a GPU can say of this benchmark:

    python scripts/gpu_check.py --minutes 9 --out DIR [--device cuda:0] [--quick]

Needs the repository, BENCH_DATA (CIFAR-10 as JPEG) and no network. Four stages, each a process with its own time limit: tests on
the device, throughput, training, cells. A stage that fails doesn't stop the next. After each, DIR/summary.json and summary.md
hold all that is known so far; DIR/store holds the cells. `--device cpu --quick` runs every stage on digits within three minutes.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
SHARES = {"device_tests": 0.22, "throughput": 0.25, "training": 0.45, "cells": 1.0}  # of the time that is left
GRACE = 10.0  # seconds between a stage's own end and its kill


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from scripts.gpu.task import options

    parser = options()
    parser.add_argument("--minutes", type=float, default=9.0)
    told = parser.parse_args()
    out, ends = told.out.resolve(), time.monotonic() + 60 * told.minutes
    out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {
        "device": _name(told.device),
        "torch": torch.__version__,
        "quick": told.quick,
        "stages": [],
    }
    for stage, share in SHARES.items():
        seconds = max((ends - time.monotonic() - GRACE) * share, 1.0)
        options_ = [
            "--device",
            told.device,
            "--out",
            str(out),
            "--seconds",
            f"{seconds:.0f}",
            *(["--quick"] * told.quick),
        ]
        summary["stages"].append(_stage(stage, options_, seconds, out))
        (out / "summary.json").write_text(json.dumps(summary, indent=1))
        (out / "summary.md").write_text(_markdown(summary))
    print((out / "summary.md").read_text())
    if any(stage["outcome"] != "done" for stage in summary["stages"]):
        sys.exit(1)


def _stage(name: str, told: list[str], seconds: float, out: Path) -> dict[str, Any]:
    began, log = time.monotonic(), out / f"{name}.log"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", f"scripts.gpu.{name}", *told],
            cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        try:
            code = process.wait(seconds + GRACE)
            outcome = "done" if code == 0 else f"failed with {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its own session: whatever it started goes with it
            process.wait()
            outcome = "out of time"
    kept = out / f"{name}.json"
    return {
        "stage": name, "outcome": outcome, "seconds": time.monotonic() - began,
        "found": json.loads(kept.read_text()) if kept.exists() else None,
        "log": log.read_text()[-2000:] if outcome != "done" else "",
    }  # fmt: skip


def _name(device: str) -> str:
    if device.startswith("cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name(torch.device(device))
    return f"{device} ({platform.machine()})"


def _markdown(summary: dict[str, Any]) -> str:
    lines = [f"# {summary['device']}, torch {summary['torch']}{', toy scale' if summary['quick'] else ''}", ""]
    for stage in summary["stages"]:
        lines += [f"## {stage['stage']}: {stage['outcome']}, {stage['seconds']:.0f} s", ""]
        lines += [line for name, value in (stage["found"] or {}).items() for line in _lines(name, value)]
        lines += ["```", stage["log"], "```"] if stage["log"] else []
        lines.append("")
    return "\n".join(lines)


def _lines(name: str, value: Any) -> list[str]:
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return [f"- {name}: {_shown(value)}"]
    columns = list(dict.fromkeys(column for row in value for column in row))
    body = [" | ".join(_shown(row.get(column)) for column in columns) for row in value]
    return ["", *(f"| {row} |" for row in [" | ".join(columns), " | ".join(["---"] * len(columns)), *body]), ""]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value).replace("|", "/")


if __name__ == "__main__":
    main()
