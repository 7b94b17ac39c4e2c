"""adv-lib (Rony and Ben Ayed): any function of `adv_lib.attacks` by its name."""

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import Tensor

from attacks.foreign.network import Metered
from bench.core.errors import BenchError, nearest


@contextmanager
def _without_visdom() -> Iterator[None]:
    """adv-lib imports visdom for a logger that nobody here uses, and visdom has no wheel: where it isn't installed, a name."""
    try:
        import visdom  # pyright: ignore[reportMissingImports, reportUnusedImport]  # noqa: F401
    except ModuleNotFoundError:
        stand_in = ModuleType("visdom")
        stand_in.__dict__["Visdom"] = object
        sys.modules["visdom"] = stand_in
        try:
            yield
        finally:
            del sys.modules["visdom"]
    else:
        yield


with _without_visdom():
    import adv_lib.attacks as library  # pyright: ignore[reportMissingImports]

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
