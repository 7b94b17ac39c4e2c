"""What a step of a set's recipe costs over a step of standard training of one network, in one run:

    python scripts/set_cost.py [rounds=5] [batch=120] model=disjoint_cifar_small recipe=disjoint_3 dataset=cifar10_jpeg [...]

Steps alternate, so that a shared machine's drift hits both; the median of their ratios is printed, on one random batch.
`natural`: the recipe as it is; `whole`: moves so large that no pair is cut off, the most that a step can cost. The sheet's pass
count for n = 3 is 18 (defenses.recipes.disjoint).
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from bench.assemble.untrained import untrained
from bench.config import grid
from bench.config.instantiate import partial as bound
from bench.config.specs import CellSpec
from bench.core.device import device_of
from bench.models.sets import ModelSet
from defenses.recipes import standard
from defenses.training import model_sets

LARGE = {"e1": 1e5, "e2": 1.0}
EPOCH = 4  # the angle loss and both transfer losses are on


def main(typed: list[str]) -> None:
    options = {name: int(value) for name, _, value in (a.partition("=") for a in typed) if name in ("rounds", "batch")}
    (cell,) = grid.cells([a for a in typed if a.partition("=")[0] not in ("rounds", "batch")])
    ratios = measure(cell.config, options.get("rounds", 5), options.get("batch", 120))
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.2f} x a standard step of one network")


def measure(config: dict[str, Any], rounds: int, batch: int) -> dict[str, float]:
    """{what: its median time over that of a standard step of one network}."""
    spec, device = CellSpec.parse(config), device_of(config["device"])
    assert spec.recipe is not None, "choose a model whose weights come of a recipe"
    natural = bound(spec.recipe.loss)
    models: Any = untrained(spec)
    assert isinstance(models, ModelSet), "choose a model whose weights are a set"
    models.to(device=device, memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    x = torch.rand(batch, *config["dataset"]["shape"], generator=torch.Generator().manual_seed(0)).to(device)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.arange(batch, device=device) % config["dataset"]["classes"]
    plain: model_sets.Loss = partial(standard.loss, label_smoothing=0.0)
    tasks: dict[str, tuple[nn.Module, model_sets.Loss]] = {
        "standard": (models[0], plain),
        f"{len(models)} standard": (models, plain),
        "natural": (models, natural),
    }
    if "e1" in spec.recipe.loss.fields():
        tasks["whole"] = (models, partial(natural, **LARGE))
    steps = {name: _step(model, loss, x, y) for name, (model, loss) in tasks.items()}
    taken = [{name: _timed(step, device) for name, step in steps.items()} for _ in range(rounds + 1)][
        1:
    ]  # 1 to warm up
    return {name: median(each[name] / each["standard"] for each in taken) for name in list(tasks)[1:]}


def _step(model: nn.Module, loss: model_sets.Loss, x: Tensor, y: Tensor) -> Callable[[], None]:
    loss_of, optimiser = (
        model_sets.fitted(loss, model, False),
        torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9),
    )

    def step() -> None:
        value, _ = loss_of(model, x, y, EPOCH)
        optimiser.zero_grad()
        value.backward()
        optimiser.step()

    return step


def _timed(step: Callable[[], None], device: torch.device) -> float:
    """Seconds: of the processor where it does the work, since neighbours' load is not ours."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    began = clock()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - began


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    torch.set_num_threads(1)
    main(sys.argv[1:])
