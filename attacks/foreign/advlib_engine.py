"""adv-lib (Rony and Ben Ayed): any function of `adv_lib.attacks` by its name."""

import inspect
from collections.abc import Mapping
from typing import Any

import adv_lib.attacks as library  # pyright: ignore[reportMissingImports]
from torch import Tensor

from attacks.foreign.network import Metered
from bench.core.errors import BenchError, nearest

NORMS = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}


def names() -> list[str]:
    return [
        name
        for name, kind in inspect.getmembers(library, inspect.isfunction)
        if "inputs" in inspect.signature(kind).parameters
    ]


def play(network: Metered, x: Tensor, y: Tensor, name: str, options: Mapping[str, Any]) -> Tensor:
    """The radius is the threat's where the function takes one (ε, eps), so is the norm."""
    if name not in names():
        raise BenchError(f"adv-lib has no attack {name!r}{nearest(name, names())}")
    attack = getattr(library, name)
    takes, threat = inspect.signature(attack).parameters, network.threat
    own = {"ε": threat.radius, "eps": threat.radius, "norm": NORMS[threat.norm]}
    given = {key: value for key, value in own.items() if key in takes and key not in options}
    return attack(network, x, y, **given, **options)
