"""A data set's split in a cell's order, as the cell sees it: images, labels and stable numbers by position."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.config.instantiate import make
from bench.config.network_specs import PoolSpec
from bench.config.specs import DatasetSpec, SamplesSpec
from bench.core.errors import BenchError
from bench.data.source import Source, order, to_float

SEEDED = SamplesSpec(n=None, order="seeded", seed=0)


@dataclass(frozen=True)
class Samples:
    source: Source
    order: Tensor  # (N,) rows of the source
    device: torch.device

    def __len__(self) -> int:
        return len(self.order)

    @property
    def highest(self) -> int:
        """The highest sample number."""
        return int(self.source.ids.max())

    def numbers(self, positions: list[int]) -> Tensor:
        """(B,) stable sample numbers, on the device."""
        return self.source.ids[self.order[positions]].to(self.device)

    def labels(self, positions: list[int]) -> Tensor:
        return self.source.labels[self.order[positions]].to(self.device)

    def images(self, positions: list[int]) -> Tensor:
        """(B,C,H,W) float32 in [0, 1], on the device."""
        return to_float(self.source.pixels(self.order[positions]), self.device)


def split_of(dataset: DatasetSpec, split: str) -> Source:
    return make(dataset.source, root=dataset.root, split=split)


def load(dataset: DatasetSpec, chosen: SamplesSpec, device: torch.device, split: str = "test") -> Samples:
    """Raises BenchError where the images have another shape than the YAML says."""
    source = split_of(dataset, split)
    shape = tuple(source.pixels(torch.arange(1)).shape[1:])
    if shape != dataset.shape:
        raise BenchError(f"dataset.shape={list(dataset.shape)}, but its images are {list(shape)}; correct the YAML")
    return Samples(source, order(source.labels, chosen.order, chosen.seed), device)


def pool(dataset: DatasetSpec, wanted: PoolSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first images of a split in seeded order (k,C,H,W), and their labels (k,)."""
    found = load(dataset, SEEDED, device, wanted.split)
    chosen = list(range(min(wanted.n, len(found))))
    return found.images(chosen), found.labels(chosen)
