"""Stage 3: recipe=standard_gpu from nothing: accuracy, seconds, images/s."""

import json
import time

from bench.assemble import networks
from bench.config import grid
from bench.core.device import device_of
from bench.data.samples import load, split_of
from bench.store import artifacts
from scripts.gpu.task import Task, start


def run(task: Task) -> None:
    (cell,) = grid.cells(task.overrides())
    spec, device = cell.spec, device_of(cell.runtime.device)
    test = load(spec.dataset, spec.samples, device)
    began = time.perf_counter()
    networks.trained(spec, test, cell.runtime.artifacts)
    wall = time.perf_counter() - began  # with compiling and loading; next to nothing where the store had the weights
    folder = artifacts.need(cell.runtime.artifacts, "weights", spec.weights_identity(), _never)
    epochs = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    accuracies = [line["test_acc"] for line in epochs if line.get("test_acc") is not None]
    spent = sum(line["seconds"] for line in epochs if "seconds" in line)
    images = len(split_of(spec.dataset, "train").labels) * len(accuracies)
    task.write("training", {
        "test_accuracy": accuracies[-1], "epochs": len(accuracies), "seconds": spent, "wall": wall,
        "images_per_second": images / spent,
    })  # fmt: skip


def _never(folder: object) -> None:
    raise AssertionError(f"{folder}: the weights were trained a moment ago")


if __name__ == "__main__":
    start(run)
