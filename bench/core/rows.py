"""take / put / cat on named tuples of tensors that share their first axis, the row axis."""

from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T", bound=tuple[Any, ...])


def take(state: T, index: Tensor | slice) -> T:
    """The rows at `index`, as a new tuple; tuples may nest."""
    return type(state)(*(take(field, index) if isinstance(field, tuple) else field[index] for field in state))


def put(state: T, index: Tensor, new: T) -> T:
    """`state` with the rows at `index` replaced by `new`, in place (a full copy a refill would cost more than the refill)."""
    for old, fresh in zip(state, new, strict=True):
        if isinstance(old, tuple):
            put(old, index, fresh)
        else:
            old[index] = fresh
    return state


def where(mask: Tensor, new: T, old: T) -> T:
    """Row by row: `new` where mask (B,) holds, else `old`."""

    def pick(a: Any, b: Any) -> Any:
        return where(mask, a, b) if isinstance(a, tuple) else torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b)

    return type(new)(*(pick(a, b) for a, b in zip(new, old, strict=True)))


def cat(parts: list[T]) -> T:
    return type(parts[0])(*(torch.cat(fields) for fields in zip(*parts, strict=True)))
