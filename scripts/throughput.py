"""How much of the victim's plain forward rate an attack keeps, in one run:

    python scripts/throughput.py [seconds=20] model=... dataset=... defense=none,rnd,unig [any override of conf/bench.yaml]

For each cell it alternates short spells of the attack's loop and of plain answers by the same victim on as many rows, and
prints the ratio of the means (a median would hide the ticks in which a population breeds); then the best plain rate of the bare
network at any batch size, and AutoAttack's own Square (pyautoattack) on the same images. Timings on a shared machine drift,
ratios within one run do not.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch

from bench.assemble import networks
from bench.assemble.attack import build_attack
from bench.assemble.victim import build_victim
from bench.config import grid
from bench.config.specs import CellSpec
from bench.core import success
from bench.core.device import device_of
from bench.core.rng import Draw, Stream
from bench.core.victim import Victim
from bench.data.samples import Samples, load
from bench.run import context
from bench.run.loop import Feed
from bench.run.loop import run as attack_all
from bench.run.slots import Todo

SPELL = 1.0  # seconds of each kind before the other's turn


def main(typed: list[str]) -> None:
    seconds = float(next((a.partition("=")[2] for a in typed if a.startswith("seconds=")), 20))
    typed = [a for a in typed if not a.startswith("seconds=")]
    for cell in grid.cells(typed):
        row = measured(
            cell, seconds, pyautoattack=(cell.choices["defense"], cell.choices["attack"]) == ("none", "square")
        )
        print(", ".join(f"{k} {v:,.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


def measured(cell: grid.GridCell, seconds: float, pyautoattack: bool = False) -> dict[str, Any]:
    """Rates in rows a second, and their ratios. pyautoattack: its Square on the same images, too."""
    config = cell.config
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    device = device_of(config["device"])
    spec = CellSpec.parse(config)
    test = load(spec.dataset, spec.samples, device)
    network, _ = networks.deployed(spec, test, Path(config["artifacts"]))
    victim = build_victim(spec, network, test, Path(config["artifacts"]))
    flying = context.calls_in_flight(test, victim.rows) * victim.rows
    slots = victim.defense.group.size if victim.defense.group else config["slots"] or flying
    todo = _right(victim, test, slots)
    attacked, plain = _rates(cell, victim, test, todo, slots, seconds)
    best = {rows: _plain_network(network, todo.x, rows) for rows in (16, 32, 64, 128, 256, 512)}
    rows, top = max(best.items(), key=lambda item: item[1])
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    row = {
        "model": cell.choices["model"], "defence": cell.choices["defense"], "attack": cell.choices["attack"], "on": where,
        "rows": victim.rows, "slots": slots, "attacked": attacked, "plain victim": plain, "over victim": attacked / plain,
        "best plain": top, "at batch": rows, "over best plain": attacked / top,
    }  # fmt: skip
    if pyautoattack:
        theirs = _autoattack(network, todo, config)
        row |= {"pyautoattack": theirs, "over pyautoattack": attacked / theirs}
    return row


def _right(victim: Victim, test: Samples, slots: int) -> Todo:
    """`slots` samples that the victim gets right."""
    positions = list(range(min(len(test), 4 * slots)))
    x, y, number = test.images(positions), test.labels(positions), test.numbers(positions)
    live = torch.ones_like(y, dtype=torch.bool)
    logits = []
    for start in range(0, len(y), slots):
        some = slice(start, start + slots)
        draw = Draw(victim.seed, number[some], torch.zeros_like(number[some]), Stream.CLEAN)
        logits.append(victim.query(x[some], draw, live[some]))
    index = (~success.fooled(torch.cat(logits), y, torch.full_like(y, -1))).nonzero()[:slots, 0]
    index = index.repeat(-(-slots // len(index)))[:slots]  # a small data set serves its samples again
    return Todo(number[index], x[index], y[index], torch.full_like(y[index], -1), live[index])


def _rates(
    cell: grid.GridCell, victim: Victim, test: Samples, todo: Todo, slots: int, seconds: float
) -> tuple[float, float]:
    """Rows per second of the attack's loop (with refill, from an endless queue) and of plain answers."""
    endless = replace(cell.spec.threat, queries=2500)
    spec = cell.spec.replace(threat=endless)
    attack = build_attack(spec, victim.defense.model.network, test, cell.runtime.artifacts)

    def spells() -> Iterator[None]:
        while True:
            feed = Feed(iter([todo] if victim.defense.group else iter(lambda: todo, None)))
            for _ in attack_all(victim, attack, endless, feed, slots):
                yield

    ticks, draw = spells(), Draw(victim.seed, todo.sample, torch.zeros_like(todo.sample), Stream.CLEAN)
    tasks: list[Callable[[], Any]] = [lambda: next(ticks), lambda: victim.query(todo.x, draw, todo.live)]
    times: list[list[float]] = [[], []]
    for task in tasks:
        _spell(task, todo.x.device)  # warm up
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        for task, taken in zip(tasks, times, strict=True):
            taken += _spell(task, todo.x.device)
    return slots / mean(times[0]), slots / mean(times[1])


def _spell(task: Callable[[], Any], device: torch.device) -> list[float]:
    taken, ends = [], time.perf_counter() + SPELL
    while time.perf_counter() < ends:
        began = time.perf_counter()
        task()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return taken


@torch.no_grad()
def _plain_network(network: torch.nn.Module, x: torch.Tensor, rows: int) -> float:
    dtype = next(network.features.parameters()).dtype  # pyright: ignore[reportAttributeAccessIssue]
    batch = x.repeat(-(-rows // len(x)), 1, 1, 1)[:rows].to(dtype)
    taken = [t for _ in range(2) for t in _spell(lambda: network.features(batch), x.device)]  # pyright: ignore[reportCallIssue]
    return rows / median(taken)


def _autoattack(network: torch.nn.Module, todo: Todo, config: dict[str, Any]) -> float:
    """Rows a second that pyautoattack's Square sends, bookkeeping included."""
    from pyautoattack.square import SquareAttack

    sent = 0

    def model(x: torch.Tensor) -> torch.Tensor:
        nonlocal sent
        sent += len(x)
        return network(x)

    spec = CellSpec.parse(config)
    limits = spec.threat
    norm, p_init = {"linf": "Linf", "l2": "L2"}[limits.norm], config["attack"]["p_init"]
    attack = SquareAttack(model, norm, n_queries=50, eps=limits.radius, p_init=p_init, device=todo.x.device)
    began = time.perf_counter()
    attack.perturb(todo.x, todo.y)
    return sent / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(sys.argv[1:])
