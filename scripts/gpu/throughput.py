"""Stage 2: an attack's queries/s over the best plain forward rate at the same numerics, PGD-20 over its bare passes."""

from typing import Any

from bench.config import grid
from scripts import throughput, white_box_overhead
from scripts.gpu.task import Task, start

ATTACKS = ["square", "simba", "signhunter", "nes", "bandits", "rays"]
DEFENCES = ["none", "rnd", "unig"]


def run(task: Task) -> None:
    any_weights = ["recipe.epochs=1"] if task.quick else ["recipe.epochs=1", "recipe.compile=false"]
    attacks = ATTACKS[:2] if task.quick else ATTACKS
    found: dict[str, Any] = {"rates": [], "not_measured": []}
    spell = 1.0 if task.quick else max(2.0, task.seconds / (3 * len(attacks) * len(DEFENCES)))
    for attack in attacks:
        for defence in DEFENCES:
            if task.left < 3 * spell:
                found["not_measured"].append(f"{attack} {defence}")
                continue
            more = [f"attack={attack}", f"defense={defence}", "samples=1000" if not task.quick else "samples=100"]
            more += ["defense.group.size=32"] if task.quick and defence == "unig" else []
            (cell,) = grid.cells(task.overrides(*any_weights, *more))
            found["rates"].append(throughput.measured(cell, spell, pyautoattack=attack == "square"))
            task.write("throughput", found)
    repeats = 2 if task.quick else 5
    found["pgd20_over_bare_passes"] = white_box_overhead.measured(task.overrides(*any_weights), repeats)
    task.write("throughput", found)


if __name__ == "__main__":
    start(run)
