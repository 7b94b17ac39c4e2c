"""What ten minutes of a GPU can say of this benchmark:

    python scripts/gpu_check.py --minutes 9 --out DIR [--device cuda:0] [--quick]

Needs the repository, BENCH_DATA (CIFAR-10 as JPEG), BENCH_WEIGHTS (the robust f_b), no network; a C compiler helps torch.compile.
Six stages, each a process with its own time limit: tests on the device, throughput, training, Square against pyautoattack's, a
plan, cells. A stage that fails doesn't stop the next, nor does a measurement within one that fails or takes too long. After each
stage DIR/summary.json and summary.md hold all that is known so far: the goals first, each with its value or why there is none.
DIR/store holds cells and weights, DIR/cells.tar.gz the cells alone, which are small. `--device cpu --quick` runs every stage on
digits: a minute of CPU time, within three minutes on two cores.
"""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
# of the time that is left
SHARES = {"device_tests": 0.18, "throughput": 0.22, "training": 0.5, "square": 0.55, "planned": 0.3, "cells": 1.0}
GRACE = 10.0  # seconds between a stage's own end and its kill


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from scripts.gpu.task import options

    parser = options()
    parser.add_argument("--minutes", type=float, default=9.0)
    told = parser.parse_args()
    out, ends = told.out.resolve(), time.monotonic() + 60 * told.minutes
    out.mkdir(parents=True, exist_ok=True)
    for stage in SHARES:  # what an earlier run left is not of this one
        (out / f"{stage}.json").unlink(missing_ok=True)
    device, visible = _alone(told.device)
    summary: dict[str, Any] = {
        "device": _name(told.device), "torch": torch.__version__, "quick": told.quick, "seconds": 60 * told.minutes, "stages": [],
    }  # fmt: skip
    for stage, share in SHARES.items():
        seconds = max((ends - time.monotonic() - GRACE) * share, 1.0)
        words = ["--device", device, "--out", str(out), "--seconds", f"{seconds:.0f}", *(["--quick"] * told.quick)]
        summary["stages"].append(_stage(stage, words, seconds, out, visible))
        _keep(summary, out)
    print((out / "summary.md").read_text())
    if any(stage["outcome"] != "done" for stage in summary["stages"]):
        sys.exit(1)


def _alone(device: str) -> tuple[str, dict[str, str]]:
    """cuda:N as the only one that a stage sees, since tests and profilers take the first."""
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number:
        return device, {}
    visible = [each for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each]
    return "cuda", {"CUDA_VISIBLE_DEVICES": visible[int(number)] if int(number) < len(visible) else number}


def _keep(summary: dict[str, Any], out: Path) -> None:
    """Both files, whatever the stages wrote."""
    from scripts.gpu import goals

    found = {stage["stage"]: stage["found"] or {} for stage in summary["stages"]}
    try:
        outcomes = {stage["stage"]: stage["outcome"] for stage in summary["stages"]}
        summary["goals"] = [goal._asdict() for goal in goals.of(found, outcomes, summary["quick"])]
        text = _markdown(summary)
    except Exception as error:  # a stage that wrote something unforeseen
        text = f"# {summary['device']}\n\nno table ({type(error).__name__}: {error}); summary.json has the numbers\n"
    (out / "summary.json").write_text(json.dumps(summary, indent=1, default=str))
    (out / "summary.md").write_text(text)
    if (cells := out / "store" / "cells").is_dir():
        with tarfile.open(out / "cells.tar.gz", "w:gz") as tar:
            tar.add(cells, "store/cells")


def _stage(
    name: str, told: list[str], seconds: float, out: Path, more: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """more: of the environment."""
    began, log = time.monotonic(), out / f"{name}.log"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", f"scripts.gpu.{name}", *told],
            cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, **(more or {})},
        )  # fmt: skip
        try:
            code = process.wait(seconds + GRACE)
            outcome = "done" if code == 0 else f"failed with {code}"
        except subprocess.TimeoutExpired:
            outcome = "out of time"
        finally:  # its own session: whatever it started goes with it, also where someone pressed Ctrl-C
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return {
        "stage": name, "outcome": outcome, "seconds": time.monotonic() - began,
        "found": _read(out / f"{name}.json"),
        "log": log.read_text()[-2000:] if outcome != "done" else "",
    }  # fmt: skip


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _name(device: str) -> str:
    try:
        if device.startswith("cuda"):
            return torch.cuda.get_device_properties(torch.device(device)).name
    except Exception as error:  # the stages will say more
        return f"{device} ({type(error).__name__})"
    return f"{device} ({platform.machine()})"


def _markdown(summary: dict[str, Any]) -> str:
    lines = [f"# {summary['device']}, torch {summary['torch']}{', toy scale' if summary['quick'] else ''}", ""]
    if summary["quick"]:
        lines += [
            "Digits and a small network: they say that the stages run, and nothing of the goals, a GPU's.",
            "",
        ]
    goals = summary.get("goals", [])
    if not summary["quick"] and goals:
        counts = {met: sum(goal["met"] == met for goal in goals) for met in ("yes", "no", "not measured")}
        lines += [f"Goals met {counts['yes']}, missed {counts['no']}, not measured {counts['not measured']}.", ""]
    lines += _lines("goals", goals)[1:]
    for stage in summary["stages"]:
        lines += [f"## {stage['stage']}: {stage['outcome']}, {stage['seconds']:.0f} s", ""]
        lines += [line for name, value in (stage["found"] or {}).items() if value != [] for line in _lines(name, value)]
        lines += ["```", stage["log"], "```"] if stage["log"] else []
        lines.append("")
    return "\n".join(lines)


def _lines(name: str, value: Any) -> list[str]:
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return [f"- {name}: {_shown(value)}"]
    columns = list(dict.fromkeys(column for row in value for column in row))
    body = [" | ".join(_shown(row.get(column)) for column in columns) for row in value]
    table = [" | ".join(columns), " | ".join(["---"] * len(columns)), *body]
    return ["", *([] if name == "goals" else [f"{name}:", ""]), *(f"| {row} |" for row in table), ""]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value).replace("|", "/")


if __name__ == "__main__":
    main()
