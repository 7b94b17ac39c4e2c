"""The one shape of every network here: logits = head(features(x)), x (B, C, H, W) in [0, 1].

UniG and the disjoint recipes sit between the two. Normalisation is the first layer of `features`: x stays in pixels.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.errors import BenchError


class Normalise(nn.Module):
    """(x - mean) / std per channel. The numbers come from YAML, so they are no part of the stored weights."""

    mean: Tensor
    std: Tensor
    answers: torch.dtype | None = None  # what the layers behind it compute in, where that is not what comes in

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(list(mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        normal = (x - self.mean) / self.std
        return normal if self.answers is None else normal.to(self.answers)


def lower(features: nn.Module, dtype: torch.dtype) -> torch.dtype:
    """Turns a network's layers to `dtype`, in place -> the dtype that it takes images in. Normalisation stays float32: rounding
    the image itself to bfloat16, in steps of up to 1/256, would drown the small probes of NES and Bandits."""
    features.to(dtype)
    first = [m for m in features.modules() if isinstance(m, Normalise)]
    for module in first:
        module.float()
        module.answers = dtype
    return torch.float32 if first else dtype


class EvenLinear(nn.Linear):
    """A Linear whose inner dimension is filled up to a multiple of 16 with zeros. Matrix products of an odd width take other
    paths for the last rows of a batch, so that a row's last bit would depend on its place."""

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        pad = (0, -self.in_features % 16)
        return F.linear(F.pad(x, pad), F.pad(self.weight, pad), self.bias)


def even(network: nn.Module) -> None:
    """Gives every Linear whose width is no multiple of 4 the product of EvenLinear; the weights stay as they are."""
    for module in network.modules():
        if type(module) is nn.Linear and module.in_features % 4:
            module.__class__ = EvenLinear


class NoHead(nn.Module):
    """In the head's place of a network that no Linear ends: its `features` are the logits already."""

    def __init__(self, name: str, classes: int) -> None:
        super().__init__()
        self.name, self.in_features, self.out_features = name, classes, classes

    def forward(self, logits: Tensor) -> Tensor:
        return logits


class Split(nn.Module):
    features: nn.Module  # (B, C, H, W) -> (B, d)
    head: nn.Linear | NoHead  # (B, d) -> (B, K)
    shape: tuple[int, int, int]

    def __init__(self, features: nn.Module, head: nn.Linear | NoHead, shape: Sequence[int]) -> None:
        super().__init__()
        self.features, self.head = features, head
        self.shape = (shape[0], shape[1], shape[2])

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[1:]) != self.shape:
            raise BenchError(
                f"this model takes images of shape {self.shape}, not {tuple(x.shape[1:])}; "
                f"choose a data set of that size (resize and crop belong to the data set)"
            )
        return self.head(self.features(x))


def probe_of(shape: Sequence[int]) -> Tensor:
    """(2, *shape) fixed pixels."""
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))


def split_at_last_linear(
    model: nn.Module,
    shape: Sequence[int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Split:
    """A foreign network as a Split: its last Linear becomes the head and leaves a hole in the features.

    mean = None: the network normalises by itself (RobustBench's do).
    """
    model.eval()
    probe = probe_of(shape)
    inside = probe if mean is None or std is None else Normalise(mean, std)(probe)
    name, logits = _last_linear(model, inside)
    features = deepcopy(model)  # the caller's model stays whole
    parent, _, leaf = name.rpartition(".")
    head = cast(nn.Linear, features.get_submodule(name))
    setattr(features.get_submodule(parent), leaf, nn.Identity())
    if mean is not None and std is not None:
        features = nn.Sequential(Normalise(mean, std), features)
    split = Split(features, head, shape).eval()
    with torch.no_grad():
        ours = split(probe)
    if not torch.equal(ours, logits):
        raise BenchError(f"{_kind(model)} goes on after its last Linear ({name}), so it has no features/head split")
    return split


def _last_linear(model: nn.Module, x: Tensor) -> tuple[str, Tensor]:
    """The name of the Linear that ran last on x, and the model's output."""
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    with torch.no_grad():
        logits = model(x)
    for hook in hooks:
        hook.remove()
    if not ran or ran.count(ran[-1]) > 1:
        raise BenchError(f"{_kind(model)} has no Linear that ends it, so it has no features/head split")
    return ran[-1], logits


def _kind(model: nn.Module) -> str:
    return f"the network {type(model).__name__}"
