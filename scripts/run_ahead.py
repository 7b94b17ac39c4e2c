"""What the last images of an attack cost, with spare rows that ask ahead and without, beside AutoAttack's Square:

    python scripts/run_ahead.py threads=1 dataset=cifar10_jpeg model=vgg_fb_adv [what=wall,calls,long] [rows=64,512] [repeats=3]

wall: 50 images x 300 queries, clean pass included, ours and pyautoattack's in turn: seconds of wall and of CPU time, the least of
the repeats, since others may use the machine.
calls: 35 attacked images, 300 and 1,000 queries, in calls of each of `rows`: network calls, and queries asked in vain.
long: 400 images x 300 queries: the share of rows that were filler or thrown away.
Any other override of conf/bench.yaml may follow.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bench.assemble import networks
from bench.assemble.attack import build_attack
from bench.assemble.networks import build_victim
from bench.config import grid
from bench.core.device import device_of
from bench.core.rng import Draw, Stream
from bench.data.samples import load
from bench.models.pooling import QuickMaxPool
from bench.run import context, loop
from bench.run.slots import Todo


class Outcome(NamedTuple):
    images: int  # that the victim gets right, and that were attacked
    held: int  # of them, those that no query fooled
    calls: int  # of the network, those of the clean pass apart
    ledger: dict[str, int]  # rows by purpose
    wall: float  # seconds, the clean pass included
    cpu: float


def ours(
    cell: grid.GridCell, images: int, queries: int, rows: int | None, run_ahead: bool = True, most: int | None = None
) -> Outcome:
    """Square on the first `images` samples as `bench.run` attacks them; at most so many of those that the victim gets right."""
    rows, device = rows or cell.spec.numerics.rows, device_of(cell.runtime.device)
    numerics, threat = cell.spec.numerics.model_copy(update={"rows": rows}), replace(cell.spec.threat, queries=queries)
    spec = cell.spec.replace(numerics=numerics, threat=threat)
    test = load(spec.dataset, spec.samples, device)
    network, _ = networks.deployed(spec, test, cell.runtime.artifacts)
    victim = build_victim(spec, network, test, cell.runtime.artifacts)
    attack = build_attack(spec, network, test, cell.runtime.artifacts)
    positions, calls = list(range(images)), [0]
    x, y, number = test.images(positions), test.labels(positions), test.numbers(positions)
    network.features.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    wall, cpu = time.perf_counter(), time.process_time()
    clean = victim.query(x, Draw(victim.seed, number, torch.zeros_like(y), Stream.CLEAN), torch.ones_like(y) > 0)
    before, right = calls[0], (clean.argmax(1) == y).nonzero()[:most, 0]
    todo = Todo(number[right], x[right], y[right], torch.full_like(y[right], -1), y[right] >= 0)
    n = len(todo.y)
    slots = min(context.calls_in_flight(test, rows), -(-n // rows)) * rows
    pace = loop.Pace(cell.runtime.look_every, run_ahead, cell.runtime.cuda_graph)
    looks = loop.run(victim, attack, spec.threat, loop.Feed(iter([todo])), slots, pace)
    held = sum(int((~look.finished.fooled).sum()) for look in looks if look.finished is not None)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Outcome(n, held, calls[0] - before, victim.ledger.totals(), wall, cpu)


def theirs(cell: grid.GridCell, images: int, queries: int) -> Outcome:
    """pyautoattack's Square at the same p_init on the same images, which it asks itself first."""
    from pyautoattack.square import SquareAttack

    spec, device, calls, sent = cell.spec, device_of(cell.runtime.device), [0], [0]
    test = load(spec.dataset, spec.samples, device)
    network, _ = networks.deployed(spec, test, cell.runtime.artifacts)
    positions = list(range(images))
    x, y = test.images(positions), test.labels(positions)
    for module in network.modules():  # the network as it comes
        if type(module) is QuickMaxPool:
            module.__class__ = nn.MaxPool2d  # pyright: ignore[reportAttributeAccessIssue]

    def model(batch: Tensor) -> Tensor:
        calls[0], sent[0] = calls[0] + 1, sent[0] + len(batch)
        return network(batch)

    if device.type == "cuda":  # PyTorch's own arithmetic
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = True, False
    norm = {"linf": "Linf", "l2": "L2"}[spec.threat.norm]
    attack = SquareAttack(
        model, norm, n_queries=queries, eps=spec.threat.radius, p_init=cell.config["attack"]["p_init"], device=device
    )
    with torch.no_grad():
        wall, cpu = time.perf_counter(), time.process_time()
        found = attack.perturb(x, y)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        right, fooled = network(x).argmax(1) == y, network(found).argmax(1) != y
    return Outcome(int(right.sum()), int((right & ~fooled).sum()), calls[0], {"attack": sent[0]}, wall, cpu)


def main(typed: list[str]) -> None:
    told = dict(a.split("=") for a in typed if a.startswith(("what=", "rows=", "repeats=")))
    (cell,) = grid.cells([a for a in typed if not a.startswith(("what=", "rows=", "repeats="))])
    if cell.config["threads"]:
        torch.set_num_threads(cell.config["threads"])
    what, sizes = (
        told.get("what", "wall,calls,long").split(","),
        [int(r) for r in told.get("rows", "64,512").split(",")],
    )
    if "wall" in what:
        wall(cell, sizes, int(told.get("repeats", 3)))
    if "calls" in what:
        for queries in (300, 1000):
            for rows in sizes:
                got = ours(cell, 60, queries, rows, run_ahead=True, most=35)
                say(f"{got.images} images, {queries} queries, calls of {rows}", got)
    if "long" in what:
        for rows in sizes:
            say(f"400 images, 300 queries, calls of {rows}", ours(cell, 400, 300, rows, run_ahead=True))


def wall(cell: grid.GridCell, sizes: list[int], repeats: int) -> None:
    jobs: dict[str, Callable[[], Outcome]] = {"pyautoattack": lambda: theirs(cell, 50, 300)}
    for rows in sizes:
        jobs |= {
            f"rows={rows}, run_ahead={ahead}": lambda rows=rows, ahead=ahead: ours(cell, 50, 300, rows, ahead)
            for ahead in (False, True)
        }
    found: dict[str, list[Outcome]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            found[name].append(job())
    base = found["pyautoattack"]
    for name, each in found.items():
        ratios = [
            min(getattr(o, clock) for o in each) / min(getattr(o, clock) for o in base) for clock in ("wall", "cpu")
        ]
        say(
            f"50 images, 300 queries, {name}: over pyautoattack {ratios[0]:.2f} (CPU {ratios[1]:.2f})",
            min(each, key=lambda o: o.cpu),
        )


def say(name: str, got: Outcome) -> None:
    total = sum(got.ledger.values())
    idle = sum(got.ledger.get(kind, 0) for kind in ("filler", "discarded")) / total
    print(
        f"{name}: {got.calls} calls, {total:,} rows, filler and discarded {idle:.1%}, {got.held} of {got.images} held, "
        f"{got.wall:.1f} s, CPU {got.cpu:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
