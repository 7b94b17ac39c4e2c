"""Stage 4: Square on 1,000 images with 2,500 queries, clean pass included, against pyautoattack's on the same images, both as
they come: on the plain network of stage 3, and on a robust one. Then what the last images cost at several rows a call."""

from typing import Any

from bench.config import grid
from scripts import run_ahead
from scripts.gpu.task import CIFAR, ROBUST, Task, attempt, start

WAYS = (
    ["numerics=gpu_tf32"],  # pyautoattack's own arithmetic
    ["numerics=gpu_tf32", "cuda_graph=true"],
    ["numerics=gpu_bf16"],
    ["numerics=gpu_bf16", "cuda_graph=true"],
    ["numerics=gpu"],
)
TAIL = (64, 128, 256, 512)  # rows a call


def run(task: Task) -> None:
    found: dict[str, Any] = {"walls": [], "tail": [], "not_measured": []}
    images, queries = (30, 20) if task.quick else (1000, 2500)
    longest = 0.0
    for network, of in (("robust", ROBUST), ("plain", CIFAR)):
        ways = [["numerics.rows=16"], ["cuda_graph=true"]] if task.quick else WAYS
        for way in ([], *ways):
            about = {"network": network, "who": " ".join(way) or "pyautoattack"}
            if task.left < longest + 2:
                found["not_measured"].append(" ".join(about.values()))
                continue
            typed = task.overrides("attack=square", f"samples={images}", f"threat.queries={queries}", *way, of=of)
            row = attempt(about, lambda typed=typed, way=way: _wall(typed, images, queries, bool(way)))
            found["walls"].append(row)
            longest = max(longest, row.get("seconds", 0.0))
            task.write("square", found)
    few, budget = (6, 20) if task.quick else (20, 500)
    for rows in (8, 16) if task.quick else TAIL:
        for way in ([], ["cuda_graph=true"]):
            if task.left < 3:
                found["not_measured"].append(f"tail at {rows} rows")
                continue
            typed = task.overrides("attack=square", f"samples={4 * few}", *way, of=ROBUST)
            about = {"images": few, "queries": budget, "rows": rows, "who": " ".join(way)}
            found["tail"].append(attempt(about, lambda typed=typed, rows=rows: _tail(typed, few, budget, rows)))
            task.write("square", found)


def _wall(typed: list[str], images: int, queries: int, ours: bool) -> dict[str, Any]:
    (cell,) = grid.cells(typed)
    got = run_ahead.ours(cell, images, queries, None) if ours else run_ahead.theirs(cell, images, queries)
    return {
        "seconds": got.wall,
        "attacked": got.images,
        "held": got.held,
        "calls": got.calls,
        "rows": sum(got.ledger.values()),
    }


def _tail(typed: list[str], images: int, queries: int, rows: int) -> dict[str, Any]:
    (cell,) = grid.cells(typed)
    got = run_ahead.ours(cell, 4 * images, queries, rows, most=images)
    return {"seconds": got.wall, "calls": got.calls, "ms a call": 1000 * got.wall / max(got.calls, 1)}


if __name__ == "__main__":
    start(run)
