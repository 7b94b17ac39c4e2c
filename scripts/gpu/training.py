"""Stage 3: recipe=standard_gpu from nothing: accuracy, seconds, images/s. Of its 40 epochs as many as the time allows, by the
rate at which stage 2 trained; without torch.compile where that fails, which needs a C compiler beside the GPU."""

import json
import time
from collections.abc import Sequence
from typing import Any

from bench.assemble import networks
from bench.config import grid
from bench.core.device import device_of
from bench.core.place import Place
from bench.data.samples import load, split_of
from bench.store import artifacts
from scripts.gpu.task import Task, attempt, start

COMPILING, READING = 45.0, 10.0  # seconds: guesses for a large GPU's host; 50,000 pictures decode in one thread
MOST, FEWEST, BLIND = 40, 5, 20  # epochs: the recipe's; those that teach something; where no rate is known


def run(task: Task) -> None:
    ways = [[]] if task.quick else [["recipe.compile=true"], ["recipe.compile=false"]]
    refused: list[str] = []
    for way in ways:
        typed = [] if task.quick else [*way, f"recipe.epochs={_epochs(task, 'true' in way[0])}"]
        task.write("training", {"begun": " ".join(typed), "refused": refused})
        found = attempt({"typed": typed, "refused": refused}, lambda typed=typed: _trained(task.overrides(*typed)))
        task.write("training", found)
        if "error" not in found:
            return
        refused.append(f"{' '.join(typed)}: {found['error']}")
    raise SystemExit(1)


def _epochs(task: Task, compiled: bool) -> int:
    """As many as fit, by what an epoch of few images took without a compiler: the last one, since the first warms up."""
    few = task.read("throughput").get("epoch", {})
    if not few.get("seconds"):
        return BLIND
    return fitting(task.left - READING - (COMPILING if compiled else 0.0), few["seconds"] * 50_000 / few["images"])


def fitting(seconds: float, an_epoch: float) -> int:
    return min(max(int(seconds / an_epoch), FEWEST), MOST)


def _trained(typed: list[str]) -> dict[str, Any]:
    (cell,) = grid.cells(typed)
    spec, device = cell.spec, device_of(cell.runtime.device)
    test = load(spec.dataset, spec.samples, device)
    began = time.perf_counter()
    networks.trained(spec, test, cell.runtime.artifacts)
    wall = time.perf_counter() - began  # with compiling and reading; next to nothing where the store had the weights
    epochs = log_of(spec, cell.runtime.artifacts)
    accuracies = [line["test_acc"] for line in epochs if line.get("test_acc") is not None]
    spent = sum(line["seconds"] for line in epochs)
    images = len(split_of(spec.dataset, "train").labels) * len(epochs)
    return {
        "test_accuracy": accuracies[-1], "epochs": len(epochs), "seconds": spent, "wall": wall,
        "last_epoch": epochs[-1]["seconds"], "images_per_second": images / spent,
    }  # fmt: skip


def log_of(spec: Any, store: Place) -> Sequence[dict[str, Any]]:
    """What the loop wrote of each epoch of a network that is trained."""
    folder = artifacts.need(store, "weights", spec.weights_identity(), _never)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "seconds" in line]


def _never(folder: object) -> None:
    raise AssertionError(f"{folder}: the weights were trained a moment ago")


if __name__ == "__main__":
    start(run)
