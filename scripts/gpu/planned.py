"""Stage 5, which asks nothing of the device: how long a paper's whole experiment takes at the rates that the stages before it
measured. Every attack is taken to run to its budget on every image."""

from typing import Any

from bench.config import grid
from bench.sweep.plan import BACKWARD, plan
from scripts.gpu.task import Task, attempt, start

EXPERIMENT = "unig_cifar_paper"


def run(task: Task) -> None:
    rates = [row for row in task.read("throughput").get("rates", []) if row.get("attacked")]
    training = task.read("training").get("images_per_second")
    experiment = "unig_digits" if task.quick else EXPERIMENT
    cells = grid.cells([f"+experiment={experiment}", f"store={task.out / 'none'}", f"artifacts={task.out / 'none'}"])
    parts = {
        "without DENT": [cell for cell in cells if not cell.choices["defense"].startswith("dent")],
        "DENT": [cell for cell in cells if cell.choices["defense"].startswith("dent")],
    }
    found = [
        attempt({"what": name}, lambda some=some: hours(some, rates, training)) for name, some in parts.items() if some
    ]
    task.write("planned", {"experiment": experiment, "plans": found})


def hours(cells: list[grid.GridCell], rates: list[dict[str, Any]], training: float | None) -> dict[str, Any]:
    """At the slowest rate that some attack was measured at; DENT's own steps are not in it."""
    found = plan(cells, probe=False)
    rate = min(row["attacked"] for row in rates) if rates else None
    passes = found.forward + BACKWARD * found.backward
    return {
        "cells": found.cells, "forward": found.forward, "backward": found.backward, "training rows": found.training, "rate": rate,
        "hours of attacks": passes / rate / 3600 if rate else None,
        "hours of training": found.training / training / 3600 if training else None,
    }  # fmt: skip


if __name__ == "__main__":
    start(run)
