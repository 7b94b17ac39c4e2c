"""How the one training loop meets a set of networks, and a loss that asks for the epoch.

A loss's first argument says what it trains: `model`, one network, or `models`, a set at once (disjoint, adp). A set under a
loss for one network is n independent trainings in step: each member has its own first weights, all see the same batches.
"""

import hashlib
import inspect
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.models.sets import ModelSet
from bench.models.weights import fresh

Loss = Callable[..., tuple[Tensor, Any]]  # the value, and logits or None


def fresh_weights(model: nn.Module, seed: int) -> None:
    """From the seed; a set's member i from the seed and i, whatever n is. Frozen members stay as they are."""
    if not isinstance(model, ModelSet):
        return fresh(model, seed)
    for i, member in list(enumerate(model.members))[model.frozen :]:
        fresh(member, int.from_bytes(hashlib.sha256(json.dumps([seed, "member", i]).encode()).digest()[:4]))


def fitted(loss: Loss, model: nn.Module, compiled: bool) -> Loss:
    """loss(network, x, y, epoch) -> the value to descend on and the logits (B,K), (n,B,K) of a set, None of a network that has
    none. epoch: 0 is the first.

    Raises BenchError where the loss is for a set and the model is none, or recipe.compile is set for a set.
    """
    names = list(inspect.signature(loss).parameters)
    for_set = names[0] == "models"
    if for_set and not isinstance(model, ModelSet):
        raise BenchError("this recipe trains a set of networks; choose a model whose weights are a set, model=set_…")
    if compiled and isinstance(model, ModelSet):
        raise BenchError("recipe.compile=true can't train a set (no second derivatives); set recipe.compile=false")

    def asked(network: nn.Module, x: Tensor, y: Tensor, epoch: int) -> tuple[Tensor, Any]:
        more: dict[str, Any] = {"epoch": epoch} if "epoch" in names else {}
        return loss(network, x, y, **more)

    def each(network: ModelSet, x: Tensor, y: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """The sum, so that each member's gradient is the one that it would have alone."""
        values, logits = zip(*(asked(member, x, y, epoch) for member in network.members), strict=True)
        return torch.stack(values).sum(), torch.stack(logits)

    return each if isinstance(model, ModelSet) and not for_set else asked
