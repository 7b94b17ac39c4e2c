"""Our Square against AutoAttack's (pyautoattack) on the same network and images, same p_init and rescaled schedule:

    python scripts/agreement.py [budgets=100,300,1000] [images=500] [any override of conf/bench.yaml]

Prints robust accuracy of both with our 95% interval, and whether theirs lies inside.
"""

import sys
from pathlib import Path

import torch
from pyautoattack.square import SquareAttack

from bench.assemble import networks
from bench.assemble.attack import build_attack
from bench.assemble.networks import build_victim
from bench.config import grid
from bench.config.specs import CellSpec
from bench.core.device import device_of
from bench.core.rng import Draw, Stream
from bench.data.samples import load
from bench.report.values import Value, share
from bench.run import loop, slots


def compare(overrides: list[str], images: int, budget: int) -> tuple[Value, Value]:
    """(ours, theirs): robust accuracy over the first `images` samples, in percent."""
    (cell,) = grid.cells([*overrides, f"threat.queries={budget}"])
    config, device = cell.config, device_of(cell.runtime.device)
    spec = CellSpec.parse(config)
    test = load(spec.dataset, spec.samples, device)
    network, _ = networks.deployed(spec, test, Path(config["artifacts"]))
    victim = build_victim(spec, network, test, Path(config["artifacts"]))
    positions = list(range(images))
    x, y, number = test.images(positions), test.labels(positions), test.numbers(positions)
    none = torch.full_like(y, -1)
    logits = victim.query(
        x, Draw(victim.seed, number, torch.zeros_like(y), Stream.CLEAN), torch.ones_like(y, dtype=torch.bool)
    )
    right = logits.argmax(1) == y
    todo = slots.Todo(number[right], x[right], y[right], none[right], right[right])
    limits, attack = spec.threat, build_attack(spec, network, test, Path(config["artifacts"]))
    ended = [look.finished for look in loop.run(victim, attack, limits, loop.Feed(iter([todo])), 4 * victim.rows)]
    ours = sum(int((~each.fooled).sum()) for each in ended if each is not None)
    norm = {"linf": "Linf", "l2": "L2"}[limits.norm]
    with torch.no_grad():
        # AutoAttack counts its initial stripes as the first of n_queries, as we do
        their = SquareAttack(network, norm, n_queries=budget, eps=limits.radius, p_init=attack.p_init, device=device)
        found = their.perturb(x[right], y[right])
        theirs = int((network(found).argmax(1) == y[right]).sum())
    return share(ours, images), share(theirs, images)


def main(typed: list[str]) -> None:
    options = dict(a.split("=") for a in typed if a.startswith(("budgets=", "images=")))
    overrides = [a for a in typed if not a.startswith(("budgets=", "images="))]
    for budget in map(int, options.get("budgets", "100,300,1000").split(",")):
        ours, theirs = compare(overrides, int(options.get("images", 500)), budget)
        inside = ours.low <= theirs.value <= ours.high
        print(
            f"Square, {budget} queries, n={ours.n}: ours {ours.value:.1f} [{ours.low:.1f}, {ours.high:.1f}], "
            f"pyautoattack {theirs.value:.1f}: {'inside' if inside else 'OUTSIDE'}",
            flush=True,
        )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(sys.argv[1:])
