"""What a white-box attack costs beyond its passes: 20-step PGD over 20 plain forward and backward passes, interleaved in one run:

    python scripts/white_box_overhead.py [repeats=10] [any override of conf/bench.yaml]

CPU seconds on CPU, wall seconds on a GPU; prints the ratio of the medians.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from attacks.base import Rows
from attacks.oracles.gradients import Exact, Watched
from bench.assemble import networks
from bench.assemble.attack import build_attack
from bench.assemble.networks import build_victim
from bench.config import grid
from bench.config.specs import CellSpec
from bench.core.device import device_of
from bench.core.rng import Stream, keys
from bench.data.samples import load

STEPS = 20


def main(typed: list[str]) -> None:
    repeats = next((int(a.partition("=")[2]) for a in typed if a.startswith("repeats=")), 10)
    ratio = measured([a for a in typed if not a.startswith("repeats=")], repeats)
    print(f"{STEPS}-step PGD over {STEPS} forward and backward passes, {repeats} repeats: {ratio:.3f}")


def measured(typed: list[str], repeats: int) -> float:
    """The ratio, of medians."""
    overrides = ["attack=pgd", f"attack.steps={STEPS}", "attack.early_stop=false", "attack.random_start=false"]
    (cell,) = grid.cells([*overrides, *typed])
    config, device = cell.config, device_of(cell.runtime.device)
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    spec = CellSpec.parse(config)
    test = load(spec.dataset, spec.samples, device)
    network, _ = networks.deployed(spec, test, Path(config["artifacts"]))
    victim = build_victim(spec, network, test, Path(config["artifacts"]))
    positions = list(range(victim.rows))
    x, y, number = test.images(positions), test.labels(positions), test.numbers(positions)
    rows = Rows(number, y, torch.full_like(y, -1), keys(0, Stream.ATTACK, number))
    attack = build_attack(spec, network, test, Path(config["artifacts"]))

    def attacked() -> None:
        attack(Watched.over(Exact(victim), victim.ledger.samples, device), x, rows)

    def plain() -> None:
        for _ in range(STEPS):
            leaf = x.detach().requires_grad_()
            torch.autograd.grad(F.cross_entropy(network(leaf), y, reduction="sum"), leaf)

    spent: dict[str, list[float]] = {"attack": [], "plain": []}
    for turn in range(repeats + 1):
        for name, job in (("attack", attacked), ("plain", plain)):
            seconds = _timed(job, device)
            if turn:  # the first warms up
                spent[name].append(seconds)
    return statistics.median(spent["attack"]) / statistics.median(spent["plain"])


def _timed(job: Callable[[], None], device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = clock()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(sys.argv[1:])
