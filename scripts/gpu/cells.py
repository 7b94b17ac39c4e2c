"""Stage 6: cells of the UniG and GCM papers' tables into a store that comes back, by worth, as far as the time goes."""

import time
from typing import Any

from bench.config import grid
from bench.run import cell as runner
from bench.store.records import Cell
from scripts.gpu.task import LATE, Task, attempt, start

SQUARE = ["attack=square", "attack.p_init=0.05", "defense=none,rnd,unig_leave,unig,unig_noise"]
GROUPS = ["attack=square", "defense=unig", "samples=1024", "threat.queries=100", "defense.group.size=32,128,256,512"]
ROUNDS = {
    "square, 100 queries": [*SQUARE, "samples=1000", "threat.queries=100"],
    "groups": GROUPS,  # a goal hangs on them, and on these
    "numerics": ["attack=square", "samples=1000", "threat.queries=100", "numerics=gpu,gpu_tf32,gpu_bf16"],
    "square, 2,500 queries": [*SQUARE, "samples=1000", "threat.queries=2500"],
    "square, adversarially trained": [
        *("attack=square", "attack.p_init=0.05", "samples=1000", "threat.queries=100,2500", "recipe=fast_at"),
        *("recipe.epochs=15", "recipe.bf16=true", "recipe.batch=512", "recipe.lr=0.4"),
    ],
    "other query attacks": [
        *("attack=simba,signhunter,nes,bandits", "samples=500", "threat.queries=100,2500"),
        "defense=none,rnd,unig_leave",
    ],
    "white-box": ["attack=pgd,autoattack", "defense=none,gcm", "samples=500"],
}
SHARE = 0.5  # of what is left, for one cell at most: what it has by then is kept
TOY_ROUNDS = {
    "groups": ["attack=square", "defense=unig", "samples=64", "threat.queries=10", "defense.group.size=16,32"],
    "square": ["attack=square", "defense=none,rnd,unig", "defense.group.size=32", "samples=40", "threat.queries=20"],
    "white-box": ["attack=pgd", "defense=none,gcm", "samples=40", "attack.steps=3"],
}


def run(task: Task) -> None:
    found: list[dict[str, Any]] = []
    for name, overrides in (TOY_ROUNDS if task.quick else ROUNDS).items():
        for cell in _cells(task, overrides):
            row: dict[str, Any] = {
                "round": name,
                "cell": _named(cell),
                "key": cell.key,
                "numerics": cell.choices["numerics"],
            }
            late = task.left < 5
            one = {"error": LATE} if late else attempt({}, lambda cell=cell: _one(cell), SHARE * task.left)
            found.append(row | one)
            task.write("cells", {"cells": found})


def _cells(task: Task, overrides: list[str]) -> list[grid.GridCell]:
    """`defense.group.size` is only a UniG cell's, so each defence is a line of its own."""
    group = [o for o in overrides if o.startswith("defense.group")]
    rest = [o for o in overrides if o not in group and not o.startswith("defense=")]
    names = next((o.partition("=")[2].split(",") for o in overrides if o.startswith("defense=")), ["none"])
    lines = [[*rest, f"defense={d}", *(group if d.startswith("unig") else [])] for d in names]
    return [cell for line in lines for cell in grid.cells(_typed(task, line))]


def _typed(task: Task, line: list[str]) -> list[str]:
    return task.overrides(*line) if any(o.startswith("recipe=") for o in line) else task.trained(*line)


def _named(cell: grid.GridCell) -> str:
    names = [cell.choices[group] for group in ("recipe", "defense", "attack")]
    return ", ".join([*names, f"{cell.spec.threat.queries} queries" if cell.spec.attack.queries else "white-box"])


def _one(cell: grid.GridCell) -> dict[str, Any]:
    began = time.perf_counter()
    record = Cell(cell.runtime.store, runner.run(cell.config, command="scripts/gpu_check.py"))
    frame, ledger = record.frame(), record.ledger()
    return {
        "seconds": time.perf_counter() - began,
        "filler": ledger["filler"] / max(sum(ledger.values()), 1),
        "clean_accuracy": float(frame["clean"].mean()),  # pyright: ignore[reportArgumentType]
        "robust_accuracy": float((frame["clean"] & ~frame["fooled"]).mean()),  # pyright: ignore[reportArgumentType]
        "queries": int(frame["queries"].sum()) if "queries" in frame else None,  # pyright: ignore[reportArgumentType]
    }


if __name__ == "__main__":
    start(run)
