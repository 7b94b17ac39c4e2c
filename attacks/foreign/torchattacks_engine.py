"""torchattacks (Kim 2020): any class of the package by its name."""

import inspect
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torchattacks  # pyright: ignore[reportMissingImports]
from torch import Tensor

from attacks.foreign.network import Metered
from bench.core.errors import BenchError, nearest

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def names() -> list[str]:
    return [
        name for name, kind in inspect.getmembers(torchattacks, inspect.isclass) if hasattr(kind, "set_mode_default")
    ]


def play(network: Metered, x: Tensor, y: Tensor, name: str, options: Mapping[str, Any]) -> Tensor:
    """eps and norm are the threat's where the class takes them; a step size `alpha` that nobody sets is a fifth of eps."""
    if name not in names():
        raise BenchError(f"torchattacks has no attack {name!r}{nearest(name, names())}")
    kind = getattr(torchattacks, name)
    takes, radius = inspect.signature(kind).parameters, network.threat.radius
    own = {"eps": radius, "alpha": radius / 5, "norm": NORMS[network.threat.norm], "n_classes": 0}
    if "n_classes" in takes and "n_classes" not in options:
        own["n_classes"] = int(network(x).shape[1])
    given = {key: value for key, value in own.items() if key in takes and key not in options}
    with redirect_stdout(StringIO()):  # it prints that it finds no parameters, by which it would know the device
        attack = kind(network, **given, **options)
    attack.set_device(x.device)
    return attack(x, y)
