"""What this machine offers: visible GPUs, a sane number of jobs at once, a place for records. Imports no torch."""

import os
import subprocess
from pathlib import Path

from omegaconf import OmegaConf

from bench.core import place

NVIDIA = Path("/proc/driver/nvidia/gpus")


def visible_gpus() -> int:
    """CUDA_VISIBLE_DEVICES where it is set, else what the driver lists."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return len([name for name in chosen.split(",") if name.strip() and name.strip() != "-1"])
    return len(list(NVIDIA.iterdir())) if NVIDIA.is_dir() else 0


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs() -> int:
    """One job a visible GPU, else one for two cores: more only slow each other down."""
    return visible_gpus() or max(cores() // 2, 1)


def cores_a_job() -> int:
    """What a Ray job asks for: a request for more than a node has would pend for ever."""
    return 2 if cores() > 2 else 1


def cluster_gpus(device: str) -> int | None:
    """What a Slurm job asks for. None: nothing, which clusters without GPUs want to hear instead of 0."""
    if device == "cpu":
        return None
    if device != "auto":
        return 1
    try:
        listed = subprocess.run(["sinfo", "--noheader", "--format=%G"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 1
    return 1 if listed.returncode or "gpu" in listed.stdout else None


def default_store() -> str:
    """Where everyone's own runs go, whatever the start folder: BENCH_STORE, else results/local of the checkout that runs, else
    ./results. A relative BENCH_STORE is relative to the start folder."""
    chosen = os.environ.get("BENCH_STORE")
    if chosen:
        return chosen
    checkout = Path(__file__).resolve().parents[2]
    return str(checkout / "results" / "local") if (checkout / "results" / "published").is_dir() else "results"


def register() -> None:
    """For the launcher presets `${jobs:}`, `${visible_gpus:}`, `${cluster_gpus:<device>}`, `${cores_a_job:}` and `${a_gpu:}` (1
    where there is one); `${default_store:}`, `${on_disk:<store>}`."""
    resolvers = {
        "jobs": jobs,
        "visible_gpus": visible_gpus,
        "default_store": default_store,
        "cluster_gpus": cluster_gpus,
        "cores_a_job": cores_a_job,
        "on_disk": lambda store: str(place.on_disk(place.of(store))),
        "a_gpu": lambda: min(visible_gpus(), 1),
    }
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
