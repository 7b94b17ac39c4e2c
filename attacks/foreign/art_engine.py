"""ART, the Adversarial Robustness Toolbox (Nicolae et al. 2018): any class of `art.attacks.evasion` by its name."""

import inspect
from collections.abc import Mapping
from typing import Any

import art.attacks.evasion as library  # pyright: ignore[reportMissingImports]
import numpy as np
import torch
from art.attacks.attack import EvasionAttack  # pyright: ignore[reportMissingImports]
from art.estimators.classification import PyTorchClassifier  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn

from attacks.foreign.network import Metered
from bench.core.errors import BenchError, nearest

NORMS = {"linf": np.inf, "l2": 2, "l1": 1}


def names() -> list[str]:
    return [name for name, kind in inspect.getmembers(library, inspect.isclass) if issubclass(kind, EvasionAttack)]


def play(network: Metered, x: Tensor, y: Tensor, name: str, options: Mapping[str, Any]) -> Tensor:
    """eps, norm and batch_size are the threat's and the chunk's where the class takes them."""
    if name not in names():
        raise BenchError(f"ART has no attack {name!r}{nearest(name, names())}")
    kind, classes = getattr(library, name), int(network(x).shape[1])
    classifier = PyTorchClassifier(
        model=network, loss=nn.CrossEntropyLoss(), input_shape=tuple(x.shape[1:]), nb_classes=classes, clip_values=(0.0, 1.0),
        device_type="gpu" if x.is_cuda else "cpu",
    )  # fmt: skip
    takes, radius = inspect.signature(kind).parameters, network.threat.radius
    own = {
        "eps": radius,
        "eps_step": radius / 5,
        "norm": NORMS[network.threat.norm],
        "batch_size": len(x),
        "verbose": False,
    }
    given = {key: value for key, value in own.items() if key in takes and key not in options}
    found = kind(classifier, **given, **options).generate(x.cpu().numpy(), y.cpu().numpy())
    return torch.from_numpy(np.asarray(found))
