"""Random crop and flip as one gather on the device: pixel (row, column) of the result is looked up in the source image.

Images lie as (N, H, W, C), so the gathered batch is channels_last, and reflection is arithmetic on the index.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Pad = Literal["reflect", "zero"]


class Plan(NamedTuple):
    """One epoch's chances, drawn at once on the CPU so that every device sees the same ones."""

    ids: Tensor  # (N,) a permutation
    down: Tensor  # (N,) in -pad..pad
    right: Tensor  # (N,)
    flip: Tensor  # (N,) bool

    def part(self, start: int, stop: int) -> "Plan":
        return Plan(*(column[start:stop] for column in self))


def plan(n: int, pad: int, flip: bool, key: int, device: torch.device) -> Plan:
    generator = torch.Generator().manual_seed(key)
    ids = torch.randperm(n, generator=generator)
    down, right = torch.randint(-pad, pad + 1, (2, n), generator=generator)
    coin = torch.rand(n, generator=generator) < (0.5 if flip else 0.0)
    return Plan(*(column.to(device) for column in (ids, down, right, coin)))


def gather(images: Tensor, chance: Plan, mode: Pad) -> Tensor:
    """images: (N, H, W, C) uint8 -> (B, C, H, W) uint8 in channels_last, one per row of the plan."""
    rows = torch.arange(images.shape[1], device=images.device) + chance.down[:, None]  # (B, H), may point outside
    columns = torch.arange(images.shape[2], device=images.device) + chance.right[:, None]
    columns = torch.where(chance.flip[:, None], columns.flip(1), columns)
    rows_in, columns_in = _reflect(rows, images.shape[1]), _reflect(columns, images.shape[2])
    batch = images[chance.ids[:, None, None], rows_in[:, :, None], columns_in[:, None, :]]
    if mode == "zero":
        batch = batch * ((rows == rows_in)[:, :, None] & (columns == columns_in)[:, None, :])[..., None]
    return batch.permute(0, 3, 1, 2)


def _reflect(index: Tensor, size: int) -> Tensor:
    """-1 -> 1 and size -> size - 2: the border itself isn't doubled."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
