"""How many kernels a tick starts on an accelerator, counted on pretended CUDA tensors, so that no GPU is needed:

    python scripts/launches.py [attacks=square,simba,…] [defences=none,rnd,unig] [any override of conf/bench.yaml]

Of PreActResNet-18 in calls of 512 rows: the network's kernels, and for each attack and defence those of a tick beside them.
Views, allocations, questions about a tensor and scalars on the host start none. Kernels that torch decides on while it runs (a
convolution's change of format) are not seen.
"""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.config import grid
from bench.config.instantiate import make
from bench.core.ledger import Ledger
from bench.core.victim import FixedRows, Victim
from bench.models.split import Split
from bench.run import slots, tick

ATTACKS = ("square", "simba", "signhunter", "nes", "bandits", "rays", "hopskipjump")
DEFENCES = ("none", "rnd", "unig")
ROWS = 512
NO_KERNEL = ("empty", "empty_like", "empty_strided", "new_empty", "_unsafe_view", "lift_fresh", "detach")


class Count(TorchDispatchMode):
    """Of the operators that start a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)
        there = any(isinstance(each, torch.Tensor) and each.device.type == "cuda" for each in tree_leaves(made))
        self.kernels += there and not view and func.overloadpacket.__name__ not in NO_KERNEL
        return made


FAKE = FakeTensorMode()  # one for all: tables that an attack keeps for a device are made once


def a_tick(
    attack: str, defence: str, more: Sequence[str] = (), rows: int = ROWS, mode: FakeTensorMode = FAKE
) -> tuple[int, int]:
    """(kernels of one tick, of them the network's) for an attack and a defence of conf/, all rows in one call."""
    words = [
        "dataset=cifar10_jpeg",
        "model=preact_r18",
        f"attack={attack}",
        f"defense={defence}",
        f"numerics.rows={rows}",
    ]
    (cell,) = grid.cells([*words, *more])
    spec, device = cell.spec, torch.device("cuda")
    with mode:
        with device:
            network: Split = make(spec.model.build)  # pyright: ignore[reportAssignmentType,reportArgumentType]
            fixed = FixedRows(network.eval().requires_grad_(False), rows, torch.float32, Ledger(rows, device))
            victim = Victim(make(spec.defense, model=fixed).eval(), fixed, 0)
        x, number = torch.zeros(rows, *spec.dataset.shape, device=device), torch.arange(rows, device=device)
        y = torch.zeros_like(number)
        starts = {"starts": (x[:10], y[:10])} if spec.attack.needs and spec.attack.needs.starts else {}
        playing: Any = make(spec.attack, threat=spec.threat, **starts)
        todo = slots.Todo(number, x, y, torch.full_like(y, -1), torch.ones_like(y, dtype=torch.bool))
        game, held = tick.Game(victim, playing, spec.threat), slots.load(playing, todo, 0)
        group = victim.defense.group
        turn, sizes = (None, []) if group is None else (torch.zeros_like(number), victim.groups_of(rows))
        for _ in range(2):  # tables are made in the first
            held = tick.tick(game, held, turn, sizes)
        with Count() as all_of_it:
            tick.tick(game, held, turn, sizes)
        with Count() as own:
            network(x)
    return all_of_it.kernels, own.kernels


def main(typed: list[str]) -> None:
    told = dict(a.split("=") for a in typed if a.startswith(("attacks=", "defences=")))
    more = [a for a in typed if not a.startswith(("attacks=", "defences="))]
    defences = told.get("defences", ",".join(DEFENCES)).split(",")
    print(f"| kernels a tick beside the network's | {' | '.join(defences)} |\n|{' --- |' * (1 + len(defences))}")
    network = 0
    for attack in told.get("attacks", ",".join(ATTACKS)).split(","):
        counts = [a_tick(attack, defence, more) for defence in defences]
        network = counts[0][1]
        print(f"| {attack} | {' | '.join(str(every - own) for every, own in counts)} |", flush=True)
    print(f"\nthe network's own: {network}")


if __name__ == "__main__":
    main(sys.argv[1:])
