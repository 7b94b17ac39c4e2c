"""A data set that needs no file, for rehearsals: images of the shape asked for, two classes that any network tells apart."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SIZES = {"train": 64, "test": 16}


@dataclass(frozen=True)
class StandIn:
    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64, 0 or 1 of however many classes
    ids: Tensor  # (N,) int64

    def pixels(self, ids: Tensor) -> Tensor:
        return self.images[ids]

    def digest(self) -> str:
        return hashlib.sha256(self.images.numpy().tobytes() + self.labels.numpy().tobytes()).hexdigest()


def stand_in(root: object, split: str, shape: Sequence[int]) -> StandIn:
    """Dark images are of class 0, bright ones of class 1. `root` is not used."""
    n = SIZES[split]
    ids, channels = torch.arange(n), torch.arange(shape[0] * shape[1] * shape[2]).reshape(1, *shape)
    noise = ((ids[:, None, None, None] * 7919 + channels * 104729) % 61) - 30
    labels = ids % 2
    return StandIn((70 + 110 * labels[:, None, None, None] + noise).to(torch.uint8), labels, ids)
