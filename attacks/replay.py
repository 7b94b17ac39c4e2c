"""Replay of images that were crafted elsewhere: on one network or a set of them, once, for every victim.

Whoever has none of the victim's gradients takes those of other networks (Liu et al. 2017). The images are an artifact, found by
what made them: the sources, the attack on them, the threat (bench/assemble/crafted.py). The first answer counts; several tries at
one victim are `attacks/query/transfer.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attacks.base import Found, Oracle, Rows
from bench.core.threat import Threat


@dataclass(frozen=True)
class Replay:
    """crafted: (B,) sample numbers -> (B,C,H,W) images. What made them is the runner's to read: the attack `craft` on the mean of
    the `sources`, away from the true or the predicted `labels`. wrong_too: images that are wrong when clean are sent, too, and
    may become right: for accuracies over all images as the papers count them (bench.report.metrics, blackbox_acc_all)."""

    threat: Threat
    crafted: Callable[[Tensor], Tensor]
    sources: Mapping[str, Any] | None = None
    craft: Mapping[str, Any] | None = None
    labels: str = "truth"
    fuse: str | None = None  # of several sources: mean losses, logits, or clipped margins
    owned: int | None = None  # only the first so many of the sources
    wrong_too: bool = False
    version: int = 1
    oracle = None
    chunk = None

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        return Found(self.crafted(rows.sample).to(x.device), torch.zeros_like(rows.y))
