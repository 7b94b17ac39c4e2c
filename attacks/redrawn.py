"""No attack: the clean image itself, which a random victim answers anew each time (adversarial transformation sheet, section 6).

A random defence's clean accuracy is that of one draw, and an attacker who only waits meets its worst. Sent to every image,
right or wrong at the first draw, it leaves `re_evaluations` fresh outputs behind: the metrics clean_acc_draws (their mean) and
clean_acc_every_draw (right in each).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.base import Found, MakeOracle, Oracle, Rows
from bench.core.threat import Threat


@dataclass(frozen=True)
class Redrawn:
    threat: Threat
    oracle: MakeOracle | None = None  # asked nothing: it says that this is no query attack
    version: int = 1
    wrong_too = True
    chunk = None

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        return Found(x.clone(), torch.zeros_like(rows.y))
