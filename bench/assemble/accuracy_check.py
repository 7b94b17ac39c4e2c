"""Weights that load but answer otherwise than when they were first seen: the accuracy on a few clean samples tells."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from bench.config import key
from bench.core.errors import BenchError
from bench.core.place import Place
from bench.data.samples import Samples
from bench.models.sets import ModelSet
from bench.models.split import Split
from bench.store.files import write_whole

PROBE = 200  # samples whose clean accuracy is recorded with the weights and checked at every load


def digest(network: Split) -> str:
    """sha256 of all tensors of the state dict, with names, types and shapes."""
    whole = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def accuracy(network: Split | ModelSet, test: Samples) -> float:
    """Of the bare network (a set: its members' mean) on the first samples of the order; no query, so in nobody's ledger."""
    right, asked, positions = 0, 0, list(range(min(PROBE, len(test))))
    with torch.no_grad():
        for start in range(0, len(positions), 50):
            some = positions[start : start + 50]
            answers = network(test.images(some)).argmax(-1) == test.labels(some)  # (B,), or (n,B) of a set
            right, asked = right + int(answers.sum()), asked + answers.numel()
    return right / asked


def check(root: Place, seen: Mapping[str, Any], measured: float) -> None:
    """Raises BenchError where what these weights were `seen` to get differs by more than 2 samples (a changed library, say)."""
    file = root / "accuracy" / f"{key.of(seen)}.json"
    try:
        recorded = json.loads(file.read_text())["accuracy"] if file.exists() else None
        if recorded is None:
            write_whole(file, json.dumps({"weights": seen["weights"], "samples": PROBE, "accuracy": measured}).encode())
    except OSError as error:
        raise BenchError(f"can't write {file} ({error.strerror}); set artifacts=<a folder you may write to>") from None
    if recorded is not None and abs(recorded - measured) > 2 / PROBE:
        raise BenchError(
            f"these weights got {recorded:.1%} of {PROBE} clean samples when first used and {measured:.1%} now; "
            f"find out what changed (library, preprocessing), or delete {file} if the change is meant"
        )
