"""Stage 2: an attack's queries/s over the best plain forward rate at the same numerics, how busy the device is meanwhile, PGD-20
over its bare passes."""

from typing import Any

import torch

from bench.config import grid
from scripts import throughput, white_box_overhead
from scripts.gpu import busy
from scripts.gpu.task import QUICK_WEIGHTS, Task, attempt, start
from scripts.gpu.training import log_of

DEFENCES = ["none", "rnd", "unig"]
ATTACKS = ["square", "simba", "signhunter", "nes", "bandits", "rays"]
# by worth: first what the goals name
CASES: list[tuple[str, str, list[str]]] = [
    ("square", "none", []),
    ("square", "none", ["cuda_graph=true"]),
    *(("square", defence, []) for defence in DEFENCES[1:]),
    ("rays", "none", []),
    ("simba", "none", []),
    ("square", "none", ["numerics=gpu_tf32"]),
    ("square", "none", ["numerics=gpu_bf16"]),
    ("square", "none", ["numerics.channels_last=false"]),  # strict float32 may like the other order better
    ("square", "none", ["numerics.rows=1024"]),
    ("square", "none", ["numerics.rows=2048"]),
    *((attack, "none", []) for attack in ATTACKS[2:5]),
    *((attack, defence, []) for attack in ATTACKS[1:] for defence in DEFENCES[1:]),
    *((attack, "none", ["cuda_graph=true"]) for attack in ATTACKS[1:]),
]
TOY_CASES = [case for case in CASES if case[0] in ("square", "rays") and "numerics" not in "".join(case[2])]


def run(task: Task) -> None:
    weights = ["recipe.epochs=1"] if task.quick else QUICK_WEIGHTS
    samples = "samples=100" if task.quick else "samples=2048"
    found: dict[str, Any] = {"rates": [], "not_measured": []}
    best: dict[str, throughput.Best] = {}
    spell = 0.2 if task.quick else 0.4
    repeats = 2 if task.quick else 5
    found["busy"] = []
    for nth, (attack, defence, more) in enumerate(TOY_CASES if task.quick else CASES):
        if task.left < 12 * spell:
            found["not_measured"].append(" ".join([attack, defence, *more]))
            continue
        group = ["defense.group.size=32"] if task.quick and defence == "unig" else []
        typed = task.overrides(*weights, f"attack={attack}", f"defense={defence}", samples, *group, *more)
        about = {"attack": attack, "defence": defence, "typed": " ".join(more)}

        def rates(typed: list[str] = typed, attack: str = attack, defence: str = defence) -> dict[str, Any]:
            (cell,) = grid.cells(typed)
            numerics = cell.spec.numerics.model_copy(
                update={"rows": 0}
            ).model_dump_json()  # whose best plain rate it is
            theirs = attack == "square" and defence == "none" and numerics not in best
            cuda = cell.runtime.device.startswith("cuda")
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            row = throughput.measured(cell, 4 * spell, theirs, best.get(numerics), spell)
            row |= {"GiB": torch.cuda.max_memory_allocated() / 2**30} if cuda else {}
            best.setdefault(numerics, throughput.Best(row["best plain"], row["at batch"]))
            return row

        found["rates"].append(attempt(about, rates, max(task.left, 1.0) / 3))
        task.write("throughput", found)
        if nth == 0 and not task.quick:  # by which stage 3 chooses its epochs
            found["epoch"] = attempt({}, lambda: epoch(task.overrides(*weights)))
        if nth == 1:  # beside Square, the goals that name no attack
            found["pgd20"] = attempt({}, lambda: pgd20(task.overrides(*weights), repeats), max(task.left, 1.0) / 3)
            for how in ([], ["cuda_graph=true"]):
                square = task.overrides(*weights, "attack=square", "defense=none", samples, *how)
                about = {"typed": " ".join(how)}
                found["busy"].append(
                    attempt(about, lambda square=square: busy.measured(square), max(task.left, 1.0) / 3)
                )
                task.write("throughput", found)


def epoch(typed: list[str]) -> dict[str, Any]:
    """The last epoch of what this stage trained."""
    (cell,) = grid.cells(typed)
    assert cell.spec.recipe is not None
    lines = log_of(cell.spec, cell.runtime.artifacts)
    return {"seconds": lines[-1]["seconds"], "images": cell.spec.recipe.images}


def pgd20(typed: list[str], repeats: int) -> dict[str, Any]:
    return {"over bare passes": white_box_overhead.measured(typed, repeats)}


if __name__ == "__main__":
    start(run)
