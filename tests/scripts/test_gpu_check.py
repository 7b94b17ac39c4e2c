"""scripts/gpu_check.py: a stage that fails doesn't stop the next, and every stage runs on a CPU at toy scale."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import gpu_check

ROOT = Path(__file__).resolve().parents[2]


def test_a_stage_that_fails_or_hangs_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = gpu_check._stage("no_such_stage", [], 60.0, tmp_path)
    assert failed["outcome"].startswith("failed") and "no_such_stage" in failed["log"] and failed["found"] is None
    monkeypatch.setattr(gpu_check, "GRACE", 0.0)
    (tmp_path / "training.json").write_text('{"test_accuracy": 0.5}')  # what it had found when its time was over
    slow = gpu_check._stage("training", ["--out", str(tmp_path), "--seconds", "1"], 0.01, tmp_path)
    assert slow["outcome"] == "out of time" and slow["found"] == {"test_accuracy": 0.5}
    text = gpu_check._markdown({"device": "d", "torch": "2", "quick": True, "stages": [failed, slow]})
    assert "no_such_stage: failed" in text and "test_accuracy: 0.5" in text


@pytest.mark.dear
def test_every_stage_runs_on_a_cpu(tmp_path: Path) -> None:
    told = ["--device", "cpu", "--quick", "--minutes", "3", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "scripts/gpu_check.py", *told], cwd=ROOT, capture_output=True, text=True)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {stage["stage"]: stage["outcome"] for stage in summary["stages"]} == dict.fromkeys(gpu_check.SHARES, "done")
    assert done.returncode == 0 and all(stage["found"] for stage in summary["stages"])
    assert (tmp_path / "summary.md").read_text().count("## ") == len(gpu_check.SHARES)
