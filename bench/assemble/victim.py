"""A cell's victim: its network behind its defence, with a new ledger."""

from typing import Any

import torch

from bench.assemble import networks
from bench.config.instantiate import make
from bench.config.specs import CellSpec
from bench.core.errors import BenchError
from bench.core.place import Place
from bench.core.victim import FixedRows, Ledger, Victim
from bench.data import samples
from bench.data.samples import Samples
from bench.models.sets import ModelSet
from bench.models.split import Split, lower
from defenses.base import Defense
from defenses.deployed import RandomMember

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def build_victim(spec: CellSpec, network: Split, test: Samples, store: Place) -> Victim:
    """store: the artifacts' folder, for the networks that the defence needs beside the cell's."""
    numerics, dtype = spec.numerics, DTYPES[spec.numerics.dtype]
    takes = lower(network.features, dtype)
    if numerics.channels_last:
        network.features.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    fixed = FixedRows(network, numerics.rows, takes, Ledger(test.highest + 1, test.device))
    if numerics.compile:
        fixed.run = torch.compile(network.features)  # pyright: ignore[reportAttributeAccessIssue]
    return Victim(_defense(spec, fixed, test, store), fixed, spec.seed)


def check_defense(spec: CellSpec) -> None:
    """Raises BenchError where the defence refuses its settings: tried on a network that is not trained yet, before it is. Of one
    that needs other networks or images nothing can be said so early."""
    needs, made = spec.defense.needs, networks.untrained(spec)
    if needs and (needs.companions or needs.f_b or needs.h):
        return
    network = made.members[0] if isinstance(made, ModelSet) else made
    ledger = Ledger(1, torch.device("cpu"))
    make(spec.defense, model=FixedRows(network, spec.numerics.rows, DTYPES[spec.numerics.dtype], ledger))


def _defense(spec: CellSpec, fixed: FixedRows, test: Samples, store: Place) -> Defense:
    """The defence, given what its `needs` name."""
    needs, objects = spec.defense.needs, dict[str, Any]()
    if needs and needs.companions:
        objects["companions"] = samples.pool(spec.dataset, needs.companions, test.device)
    if needs and needs.f_b:  # its filler counts with the victim's
        network = networks.second(spec, needs.f_b, "defense.needs.f_b", test, store)
        takes = lower(network.features, DTYPES[spec.numerics.dtype])
        objects["f_b"] = FixedRows(network, fixed.rows, takes, fixed.ledger)
    if needs and needs.h:
        objects["h"] = networks.image_to_image(spec, needs.h, "defense.needs.h", test, store)
    fixed.asker = spec.defense.target
    defense: Defense = make(spec.defense, model=fixed, **objects).to(test.device).eval()
    if spec.model.member == "random" and not isinstance(defense, RandomMember):
        raise BenchError("model.member=random is deployed by defense=random_member alone; set that, or model.member=0")
    return defense
