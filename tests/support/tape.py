"""A make-believe CUDA graph: records the kernels that a function starts and plays them again on the same memory.

Like the real one it runs nothing while it records, knows tensors by their memory alone, repeats neither Python nor anything that
Python computed, and refuses what would wait for the device or carry values from the host to it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from bench.core import rows, victim
from bench.core.threat import Threat

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique_dim", "_unique2")
FROM_HOST = ("lift_fresh", "lift_fresh_copy", "lift")


class Call(NamedTuple):
    func: Any
    args: list[Any]
    nested: TreeSpec | None  # of (args, kwargs), where `args` are the leaves of both
    kwargs: dict[str, Any]
    made: list[tuple[int, int]]  # places in `args` that an earlier call's outcome fills, and its id
    out: list[Any]


class Tape(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.made: dict[int, Tensor] = {}  # by id; held, so that no id comes twice
        self.undo: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        if name in WAITS or (name.startswith("index") and _by_mask(args)):
            raise RuntimeError(f"operation not permitted when stream is capturing: {name} waits for the device")
        if name in FROM_HOST:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name} brings values from the host")
        for argument, given in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write and id(given) not in self.made:
                self.undo.setdefault(id(given), (given, given.clone()))
        out = func(*args, **kwargs)
        plain = not any(isinstance(each, list | tuple | Tensor) for each in kwargs.values())
        plain = plain and not any(isinstance(each, list | tuple) for each in args)
        flat, nested = (list(args), None) if plain else tree_flatten((args, kwargs))
        made = [(i, id(each)) for i, each in enumerate(flat) if id(each) in self.made]
        self.calls.append(Call(func, flat, nested, kwargs, made, tree_leaves(out)))
        self.made |= {id(each): each for each in tree_leaves(out) if isinstance(each, Tensor)}
        return out

    def replay(self) -> None:
        now: dict[int, Tensor] = {}
        for func, flat, nested, kwargs, made, out in self.calls:
            args = flat.copy()
            for place, which in made:
                args[place] = now.get(which, args[place])
            if nested is not None:
                args, kwargs = tree_unflatten(args, nested)
            new = func(*args, **kwargs)
            for was, is_now in zip(out, [new] if isinstance(new, Tensor) else tree_leaves(new), strict=True):
                if was is not is_now:
                    now[id(was)] = is_now


def _by_mask(args: Any) -> bool:
    return any(isinstance(each, Tensor) and each.dtype == torch.bool for each in tree_leaves(args[1:2]))


def recorder(step: Callable[[], None]) -> Callable[[], None]:
    """A `bench.run.recorded.Recorder`."""
    tape = Tape()
    try:
        with tape:
            step()
    finally:
        for tensor, was in tape.undo.values():
            tensor.copy_(was)
    return tape.replay


def as_on_cuda(monkeypatch: Any) -> None:
    """Code that looks at a CPU's masks for free takes the way that it takes on an accelerator."""
    monkeypatch.setattr(rows, "on_host", lambda _: False)
    monkeypatch.setattr(victim, "on_host", lambda _: False)

    def contains(self: Threat, x: Tensor, x_adv: Tensor, among: Tensor | None = None) -> Tensor:
        inside = self._contains(x, x_adv)
        return inside if among is None else among & inside

    monkeypatch.setattr(Threat, "contains", contains)
