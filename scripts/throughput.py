"""How much of the victim's plain forward rate an attack keeps, in one run:

    python scripts/throughput.py [seconds=20] model=... dataset=... defense=none,rnd,unig [any override of conf/bench.yaml]

For each cell it alternates short spells of the attack's loop and of plain answers by the same victim on as many rows, and
prints the ratio of their rates (means: a median would hide the ticks in which a population breeds), on a CPU also that of CPU
seconds, which nobody else's work changes much; then the best plain rate of the bare network at any batch size, and AutoAttack's
own Square (pyautoattack) on the same images. Timings on a shared machine
drift, ratios within one run do not.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench.assemble import networks
from bench.assemble.attack import build_attack
from bench.assemble.networks import build_victim
from bench.config import grid
from bench.config.specs import CellSpec
from bench.core import rows, success
from bench.core.device import device_of
from bench.core.rng import Draw, Stream
from bench.core.victim import Victim
from bench.data.samples import Samples, load
from bench.run import context, groups
from bench.run.loop import Feed, Look, Pace
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


class Best(NamedTuple):
    """The bare network's best plain rate."""

    rate: float  # rows a second
    batch: int


def measured(
    cell: grid.GridCell, seconds: float, pyautoattack: bool = False, best: Best | None = None, spell: float = SPELL
) -> dict[str, Any]:
    """Rates in rows a second, and their ratios. pyautoattack: its Square on the same images, too. best: of the same network and
    numerics, where it is known already. spell: seconds of each kind before the other's turn."""
    config = cell.config
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    device = device_of(config["device"])
    spec = CellSpec.parse(config)
    test = load(spec.dataset, spec.samples, device)
    network, _ = networks.deployed(spec, test, Path(config["artifacts"]))
    victim = build_victim(spec, network, test, Path(config["artifacts"]))
    flying = context.calls_in_flight(test, victim.rows) * victim.rows
    group = victim.defense.group
    slots = max(config["slots"] or flying, group.size if group else 0)
    todo = _right(victim, test, slots // group.size * group.size if group else slots)
    attacked, plain, over = _rates(cell, victim, test, todo, slots, seconds, spell)
    best = best or plain_network(victim, todo.x, spell, spec.numerics.channels_last)
    row = {
        "model": cell.choices["model"], "defence": cell.choices["defense"], "attack": cell.choices["attack"],
        "numerics": cell.choices["numerics"], "recorded": cell.runtime.cuda_graph and device.type == "cuda", "on": where(device),
        "rows": victim.rows, "slots": slots, "attacked": attacked, "plain victim": plain, "over victim": attacked / plain,
        **({"over victim, CPU time": over} if device.type == "cpu" else {}),
        "best plain": best.rate, "at batch": best.batch, "over best plain": attacked / best.rate,
    }  # fmt: skip
    if pyautoattack:
        theirs = _autoattack(network, todo, config)
        row |= {"pyautoattack": theirs, "over pyautoattack": attacked / theirs}
    return row


def where(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


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
    cell: grid.GridCell, victim: Victim, test: Samples, todo: Todo, slots: int, seconds: float, spell: float
) -> tuple[float, float, float]:
    """Queries a second of the attack's loop (with refill, from an endless queue), rows of plain answers, and the ratio of both by
    this process's CPU seconds."""
    looks = forever(cell, victim, test, todo, slots)
    draw = Draw(victim.seed, todo.sample, torch.zeros_like(todo.sample), Stream.CLEAN)
    ticks = Pace(cell.runtime.look_every).ticks(todo.x.device)

    def plain() -> int:
        for _ in range(ticks):  # as many as the attack asks before it looks
            victim.query(todo.x, draw, todo.live)
        return ticks * len(todo.y)

    tasks: list[Callable[[], int]] = [lambda: next(looks).queried, plain]
    spent: list[list[Spell]] = [[], []]
    for task in tasks:
        _spell(task, todo.x.device, spell)  # warm up
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        for task, each in zip(tasks, spent, strict=True):
            each += _spell(task, todo.x.device, spell)
    done, wall, cpu = ([sum(getattr(one, name) for one in each) for each in spent] for name in Spell._fields)
    return done[0] / wall[0], done[1] / wall[1], done[0] / max(cpu[0], 1e-9) / (done[1] / max(cpu[1], 1e-9))


def forever(cell: grid.GridCell, victim: Victim, test: Samples, todo: Todo, slots: int) -> Iterator[Look]:
    """The looks of an attack whose queue never ends."""
    endless = replace(cell.spec.threat, queries=2500)
    attack = build_attack(cell.spec.replace(threat=endless), victim.defense.model.network, test, cell.runtime.artifacts)
    pace = Pace(cell.runtime.look_every, cell.runtime.run_ahead, cell.runtime.cuda_graph)
    group = victim.defense.group
    if group is None:
        return attack_all(victim, attack, endless, Feed(iter(lambda: todo, None)), slots, pace)
    parts = [rows.take(todo, slice(at, at + group.size)) for at in range(0, len(todo.y), group.size)]
    return (ended.look for ended in groups.run(victim, attack, endless, cycle(parts), slots, pace))


class Spell(NamedTuple):
    rows: int
    wall: float  # seconds
    cpu: float  # of this process


def _spell(task: Callable[[], int], device: torch.device, seconds: float) -> list[Spell]:
    """Each time that the task was done."""
    spent, ends = [], time.perf_counter() + seconds
    while time.perf_counter() < ends:
        began, cpu = time.perf_counter(), time.process_time()
        n = task()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(Spell(n, time.perf_counter() - began, time.process_time() - cpu))
    return spent


@torch.no_grad()
def plain_network(victim: Victim, x: torch.Tensor, spell: float, channels_last: bool = False) -> Best:
    """Of the network alone, without a defence, at whatever batch size is best; several passes are queued at once."""
    model, cuda, rates = victim.model, x.device.type == "cuda", dict[int, float]()
    for size in (16, 32, 64, 128, 256, 512, *((1024, 2048, 4096) if cuda else ())):
        batch = x.repeat(-(-size // len(x)), 1, 1, 1)[:size].to(model.dtype)
        if channels_last:
            batch = batch.contiguous(memory_format=torch.channels_last)

        def passes(batch: torch.Tensor = batch) -> int:
            for _ in range(8 if cuda else 1):
                model.run(batch)
            return (8 if cuda else 1) * len(batch)

        _spell(passes, x.device, 0.0 if not cuda else spell / 4)
        spent = _spell(passes, x.device, spell)
        # as the attack's: whoever else computes slows both
        rates[size] = sum(one.rows for one in spent) / sum(one.wall for one in spent)
    batch_size = max(rates, key=lambda size: rates[size])
    return Best(rates[batch_size], batch_size)


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
