"""The device that a name means on this machine, how CUDA computes float32 there, and how a CPU keeps its memory."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.core.errors import BenchError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


def set_arithmetic(tf32: bool) -> None:
    """How CUDA multiplies float32 from now on; always the same algorithm for the same call."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


@contextmanager
def strict_arithmetic() -> Iterator[None]:
    """Strict float32, whatever this process did before: weights belong to a recipe, not to the cell that asked for them first."""
    before = torch.backends.cudnn.allow_tf32
    set_arithmetic(tf32=False)
    try:
        yield
    finally:
        set_arithmetic(before)


TRIM, MMAP = -1, -3  # of glibc's mallopt: from which size on memory is trimmed, or comes by mmap
KEPT = (2**30, 2**25)  # bytes; older versions take no more than the second


def keep_memory() -> bool:
    """Freed memory stays with this process, where its C library can be told so -> whether it can.

    Otherwise glibc hands a network's larger activations back to the system after each layer, and each forward pass pays the page
    faults anew: 35% of a small VGG's time at 64 rows. A few hundred MiB may stay held that would have gone back.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return False
    return bool(mallopt(TRIM, KEPT[0])) and any(mallopt(MMAP, size) for size in KEPT)
