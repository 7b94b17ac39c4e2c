"""Stage 4: Square on 1,000 images with 2,500 queries, clean pass included, against pyautoattack's on the same images, both as
they come: on the plain network of stage 3, and on a robust one. Then what the last images cost at several rows a call."""

from typing import Any

from bench.config import grid
from scripts import run_ahead
from scripts.gpu.task import ROBUST, Task, attempt, start

# by worth; the first are pyautoattack's own arithmetic and what is expected to be ours at its fastest
WAYS: list[list[str]] = [
    [],
    ["numerics=gpu_bf16", "cuda_graph=true"],
    ["numerics=gpu_tf32", "cuda_graph=true"],
    ["numerics=gpu_bf16"],
    ["numerics=gpu_tf32"],
    ["numerics=gpu"],
]
TOY_WAYS = [[], ["numerics.rows=16"], ["cuda_graph=true"]]
TAIL = (64, 128, 256, 512)  # rows a call
SHARE = 0.4  # of what is left, for one run at most


def run(task: Task) -> None:
    images, queries = (30, 20) if task.quick else (1000, 2500)
    found: dict[str, Any] = {"images": images, "queries": queries, "walls": [], "tail": [], "not_measured": []}
    for nth, way in enumerate(TOY_WAYS if task.quick else WAYS):
        for network in ("robust", "plain"):
            about = {"network": network, "who": " ".join(way) or "pyautoattack"}
            if task.left < 5:
                found["not_measured"].append(" ".join(about.values()))
                continue
            typed = _typed(task, network, f"samples={images}", f"threat.queries={queries}", *way)
            measure = lambda typed=typed, way=way: _wall(typed, images, queries, bool(way))  # noqa: E731
            found["walls"].append(attempt(about, measure, SHARE * task.left))
            task.write("square", found)
        if nth == 1:  # latency comes before other ways
            _tails(task, found)


def _tails(task: Task, found: dict[str, Any]) -> None:
    few, budget = (6, 20) if task.quick else (20, 500)
    for rows in (8, 16) if task.quick else TAIL:
        for way in ([], ["cuda_graph=true"]):
            about = {"images": few, "queries": budget, "rows": rows, "who": " ".join(way)}
            if task.left < 5:
                found["not_measured"].append(f"tail at {rows} rows {about['who']}".strip())
                continue
            typed = _typed(task, "robust", f"samples={4 * few}", *way)
            measure = lambda typed=typed, rows=rows: _tail(typed, few, budget, rows)  # noqa: E731
            found["tail"].append(attempt(about, measure, SHARE / 2 * task.left))
            task.write("square", found)


def _typed(task: Task, network: str, *more: str) -> list[str]:
    typed = ["attack=square", *more]
    return task.overrides(*typed, of=ROBUST) if network == "robust" else task.trained(*typed)


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
