"""What a defended model costs: parameters and multiply-accumulates an image, by torch's own FLOP counter.

The counter sees convolutions and matrix products, backward passes included, as the papers' tools do; elementwise work is free.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench.assemble.networks import build_victim
from bench.config.specs import CellSpec
from bench.core.place import Place
from bench.core.rng import Draw, Stream
from bench.core.victim import Victim
from bench.data.samples import Samples
from bench.models.split import Split


def of(spec: CellSpec, network: Split, test: Samples, store: Place, rows: int) -> dict[str, Any]:
    """`measure` of a victim of its own, so that no ledger counts these rows, whose calls have no filler: that is the harness's,
    not the defence's. store: the artifacts' folder."""
    exact = spec.replace(numerics=spec.numerics.model_copy(update={"rows": rows, "compile": False}))
    victim = build_victim(exact, network, test, store)
    return measure(victim, test.images([i % len(test) for i in range(rows)]))


def measure(victim: Victim, x: Tensor) -> dict[str, Any]:
    """{parameters, added_parameters, macs} with x (B,C,H,W), one batch of the victim's own size.

    The victim's ledger counts these rows, so give it one of its own.
    """
    defense = victim.defense
    number = torch.arange(len(x), device=x.device)
    draw = Draw(victim.seed, number, torch.zeros_like(number), Stream.CLEAN)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        defense(x, draw)
    added = defense.added_parameters()
    own = sum(p.numel() for p in defense.model.network.parameters())
    return {"parameters": own + added, "added_parameters": added, "macs": counter.get_total_flops() / 2 / len(x)}
