"""scikit-learn's handwritten digits: 1,797 real images of 8 x 8, shipped inside the package."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from bench.data.checks import known
from bench.data.source import order

TEST = 500  # of 1,797; the rest trains


@dataclass(frozen=True)
class Digits:
    images: Tensor  # (N, 1, 8, 8) uint8
    labels: Tensor  # (N,) int64
    ids: Tensor  # (N,) int64, the index in scikit-learn's order

    def pixels(self, ids: Tensor) -> Tensor:
        return self.images[ids]

    def digest(self) -> str:
        return hashlib.sha256(self.images.numpy().tobytes() + self.labels.numpy().tobytes()).hexdigest()


def digits(root: object, split: str) -> Digits:
    """`root` is not used: the images come with the package. Grey levels 0..16 become 0..255."""
    bunch: Any = load_digits()
    labels = torch.from_numpy(np.asarray(bunch.target, dtype=np.int64))
    images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    shuffled = order(labels, "seeded", 0)
    rows = {"test": shuffled[:TEST].sort().values, "train": shuffled[TEST:].sort().values}
    chosen = rows[known("split", split, rows)]
    return Digits(images[chosen], labels[chosen], chosen)
