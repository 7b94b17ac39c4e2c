"""No attack: how far a transformation defence moves an image on average, || x - E g(x) ||_inf ("One Man's Trash ...", section
3.4 and Table 1's last row). The record's distances are to E g(x); its answer is to the clean image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import Found, MakeOracle, Rows
from attacks.oracles.moved import Moved
from bench.core.errors import BenchError
from bench.core.threat import Threat


@dataclass(frozen=True)
class EotImage:
    """samples: draws of g that the mean is over (the paper: 5,000). Raises BenchError for less than one."""

    threat: Threat
    samples: int
    oracle: MakeOracle | None = None
    version: int = 1
    wrong_too = True
    chunk = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise BenchError(f"attack.samples={self.samples}: the mean is over at least 1 draw")

    def __call__(self, oracle: Moved, x: Tensor, rows: Rows) -> Found:
        return Found(x.clone(), torch.zeros_like(rows.y), moved=oracle.mean(x, rows, self.samples))
