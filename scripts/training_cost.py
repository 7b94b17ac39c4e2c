"""What a training step of each recipe costs, in one run:

    python scripts/training_cost.py recipe=standard_mnist_small,fgr_mnist_small [seconds=30] model=... dataset=... threads=1

Steps (loss, backward, optimiser) on random images of the data set's shape, all recipes in turn, step by step: timings on a shared
machine drift, ratios within one run do not. Prints the median step and its ratio to the first recipe's. A recipe's own batch,
bf16 and images are replaced by the first one's batch and float32, so that equal work is compared.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bench.assemble.untrained import untrained
from bench.config import grid
from bench.config.instantiate import partial
from bench.core.device import device_of
from bench.models.weights import fresh
from defenses.training import loop


def main(typed: list[str]) -> None:
    seconds = float(next((a.partition("=")[2] for a in typed if a.startswith("seconds=")), 30))
    cells = grid.cells([a for a in typed if not a.startswith("seconds=")])
    config = cells[0].config
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    device, batch = device_of(config["device"]), config["recipe"]["batch"]
    steps = {cell.choices["recipe"]: _step(cell, batch, device) for cell in cells}
    for step in steps.values():  # warm up
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        for name, step in steps.items():
            times[name].append(_timed(step, device))
    first = median(next(iter(times.values())))
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{cells[0].choices['model']} on {place}, batch {batch}, {len(next(iter(times.values())))} steps each")
    for name, taken in times.items():
        print(f"  {name:24s} {1e3 * median(taken):8.1f} ms a step, {median(taken) / first:5.2f} x")


def _step(cell: grid.GridCell, batch: int, device: torch.device) -> Callable[[], None]:
    dataset, recipe = cell.spec.dataset, cell.spec.recipe
    model: Any = untrained(cell.spec)
    assert recipe is not None, "choose a model whose weights come of a recipe"
    loss = partial(recipe.loss)
    fresh(model, 0)
    model.to(device=device, memory_format=torch.channels_last).train()
    optimiser = loop._optimiser(model, recipe)
    for group in optimiser.param_groups:
        group["lr"] = 1e-4  # of no matter for the cost, but random labels may let a training diverge
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, *dataset.shape, generator=generator).to(device)
    y = torch.randint(dataset.classes, (batch,), generator=generator).to(device)

    def step() -> None:
        value, _ = loss(model, x, y)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    return step


def _timed(step: Callable[[], None], device: torch.device) -> float:
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(sys.argv[1:])
