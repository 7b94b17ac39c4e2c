"""What made a result: commit, versions, device. Kept beside every record."""

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bench.core.version import VERSION


def provenance() -> dict[str, Any]:
    """Commit and versions, as far as they can be known: those that this process began with."""
    return {name: value if isinstance(value, str) else dict(value) for name, value in _provenance().items()}


@lru_cache(maxsize=1)
def _provenance() -> dict[str, Any]:
    root = Path(__file__).resolve().parents[2]
    try:
        git = ["git", "-C", str(root)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout
        commit += " with local changes" if changed.strip() else ""
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    packages = ("torch", "torchvision", "numpy", "hydra-core")
    return {"commit": commit, "versions": {name: version(name) for name in packages} | {"defence-bench": VERSION}}


def cpu_name() -> str:
    """The processor's model, as far as the system tells: training and long attacks end otherwise on another one."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
