"""A small transformation (g before f_a), for tests."""

from typing import Any

import torch

from bench.core.victim import FixedRows, Ledger
from defenses.transformation import Transformation
from tests.support.networks import network

X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
SETTINGS: dict[str, Any] = {"delta": 0.2, "steps": 4, "step": 1 / 6, "inner": "least_likely", "clip": False}


def defence(**change: Any) -> Transformation:
    ledger = Ledger(10, torch.device("cpu"))
    f_a, f_b = (FixedRows(network(), 4, torch.float32, ledger) for _ in range(2))
    return Transformation(f_a, f_b=f_b, **(SETTINGS | {"random_start": True} | change))
