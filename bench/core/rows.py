"""take / put / where / update / cat on named tuples of tensors that share their first axis, the row axis."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T", bound=tuple[Any, ...])


LOOK_EVERY = 8  # steps of a white-box attack between two looks at a device


def on_host(tensor: Tensor) -> bool:
    """May its values be looked at for free? Elsewhere a look waits until all that was queued on the device has run."""
    return tensor.device.type == "cpu"


def idle(live: Tensor, step: int) -> bool:
    """Is no row `live` (B,) any more? Where looking waits for the device, that is asked at every LOOK_EVERY-th step alone; till
    then rows that are done cost their passes, which are metered as filler."""
    if not on_host(live) and (step + 1) % LOOK_EVERY:
        return False
    return not bool(live.any())


def column(rows: Tensor) -> Tensor:
    """(B,) -> (B,1,1,1), to stand beside images."""
    return rows.view(-1, 1, 1, 1)


def extremes(flat: Tensor) -> tuple[Tensor, Tensor]:
    """(B,n) -> the lowest and the highest of each row, (B,) each. On a CPU two passes are ten times as fast as aminmax."""
    if on_host(flat):
        return flat.amin(1), flat.amax(1)
    low, high = flat.aminmax(dim=1)
    return low, high


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
        if isinstance(a, tuple):
            return where(mask, a, b)
        return a if a is b else torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b)

    return type(new)(*(pick(a, b) for a, b in zip(new, old, strict=True)))


class Part:
    """Some rows of a state: `part.x` are those of its field `x`, gathered when they are asked for."""

    def __init__(self, state: Any, index: Tensor | None) -> None:
        self._state, self._index = state, index

    def __getattr__(self, name: str) -> Tensor:
        return self.of(getattr(self._state, name))

    def of(self, column: Tensor) -> Tensor:
        """The same rows of any other tensor (B, ...)."""
        return column if self._index is None else column[self._index]


def update(state: T, mask: Tensor, change: Callable[[Part], dict[str, Tensor]], in_place: bool = False) -> T:
    """`state` with fields of the rows where mask (B,) holds replaced by what `change` makes of those rows, row by row.

    On a CPU it is given those rows alone; elsewhere all, since the device would have to be asked which they are. in_place: on a
    CPU the fields may be written into, for states whose copy would cost more than the change.
    """
    state_: Any = state
    if not on_host(mask):
        fields = change(Part(state, None)).items()
        shape = {name: mask.view(-1, *[1] * (new.ndim - 1)) for name, new in fields}
        return state_._replace(**{name: torch.where(shape[name], new, getattr(state, name)) for name, new in fields})
    index = mask.nonzero()[:, 0]
    if not len(index):
        return state
    if len(index) == len(mask):
        return state_._replace(**change(Part(state, None)))
    write = torch.Tensor.index_copy_ if in_place else torch.Tensor.index_copy
    fields = change(Part(state, index)).items()
    return state_._replace(**{name: write(getattr(state, name), 0, index, new) for name, new in fields})


def fill(images: Tensor, state: Any, mask: Tensor, make: Callable[[Part], Tensor]) -> Tensor:
    """images (B,C,H,W) with those of the rows where mask (B,) holds made from their rows of the state, likewise."""
    if not on_host(mask):
        return torch.where(column(mask), make(Part(state, None)), images)
    index = mask.nonzero()[:, 0]
    if not len(index):
        return images
    if len(index) == len(mask):
        return make(Part(state, None))
    return images.index_copy(0, index, make(Part(state, index)))


def change(state: T, mask: Tensor, make: Callable[[T, Callable[[Tensor], Tensor]], T], in_place: bool = False) -> T:
    """As `update`, for changes of a whole nested state: make(some rows of it, a function that takes the same rows of any other
    tensor) -> those rows anew."""
    if not on_host(mask):
        return where(mask, make(state, lambda column: column), state)
    index = mask.nonzero()[:, 0]
    if not len(index):
        return state
    if len(index) == len(mask):
        return make(state, lambda column: column)
    new = make(take(state, index), lambda column: column[index])
    return put(state if in_place else cat([state]), index, new)


def cat(parts: list[T]) -> T:
    """The rows of all parts, as a new tuple; tuples may nest."""

    def join(fields: Any) -> Any:
        return cat(list(fields)) if isinstance(fields[0], tuple) else torch.cat(fields)

    return type(parts[0])(*(join(fields) for fields in zip(*parts, strict=True)))
