"""foolbox (Rauber et al. 2020): any class of `foolbox.attacks` by its name."""

import inspect
from collections.abc import Mapping
from typing import Any

import foolbox
from torch import Tensor

from attacks.foreign.network import Metered
from bench.core.errors import BenchError, nearest


def names() -> list[str]:
    kinds = inspect.getmembers(foolbox.attacks, inspect.isclass)
    return [
        name for name, kind in kinds if issubclass(kind, foolbox.attacks.base.Attack) and not inspect.isabstract(kind)
    ]


def play(network: Metered, x: Tensor, y: Tensor, name: str, options: Mapping[str, Any]) -> Tensor:
    if name not in names():
        raise BenchError(f"foolbox has no attack {name!r}{nearest(name, names())}")
    attack = getattr(foolbox.attacks, name)(**options)
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device=x.device)  # pyright: ignore[reportPrivateImportUsage]
    _, clipped, _ = attack(model, x, y, epsilons=network.threat.radius)
    return clipped
