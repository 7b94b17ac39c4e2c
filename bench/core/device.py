"""The device that a name means on this machine."""

import torch

from bench.core.errors import BenchError


def device_of(name: str) -> torch.device:
    """`auto` takes a GPU where one is visible; `cuda` without one is an error, never a silent CPU run."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BenchError(
            f"device={name}, but {torch.cuda.device_count()} CUDA devices are visible; check nvidia-smi and "
            "CUDA_VISIBLE_DEVICES (submitit: gpus_per_node), or set device=cpu"
        )
    return device
