"""A make-believe CUDA device that computes: its tensors say that they are on cuda and lie in this machine's memory.

What a real one refuses, it refuses: a CPU tensor of more than one number that meets one of its own, `.numpy()`, a CPU generator.
Numbers are the CPU's, so a cell on it must record what it records on the CPU, to the bit.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


class OnCuda(Tensor):
    """A CPU tensor that says it is on the device."""

    device = property(lambda _: CUDA)  # pyright: ignore[reportAssignmentType]
    is_cuda = property(lambda _: True)  # pyright: ignore[reportAssignmentType]
    is_cpu = property(lambda _: False)  # pyright: ignore[reportAssignmentType]
    __torch_function__ = torch._C._disabled_torch_function_impl  # the mode does it all  # pyright: ignore[reportAssignmentType]


MOVES = (Tensor.to, Tensor.cpu, Tensor.cuda, nn.Module.to)
HOST = (Tensor.numpy, Tensor.__array__)
COPIES = (Tensor.copy_,)
INDEXES = (Tensor.__getitem__, Tensor.__setitem__)  # a device's tensor takes an index from the host
MAKES = (torch.from_numpy, torch.frombuffer)
ENGINE = (torch.autograd.grad, torch.autograd.backward, Tensor.backward)
AS_IS = {torch._C._nn._parse_to, Tensor.device.__get__, Tensor.is_cuda.__get__, Tensor.is_cpu.__get__}  # pyright: ignore[reportAttributeAccessIssue]


class Pretence(TorchFunctionMode):
    """Within it `cuda` is this device. within: that function's own body is being run, its parts are looked at."""

    def __init__(self, within: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.within = within

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        mine = [each for each in given if isinstance(each, OnCuda)]
        if func in AS_IS:
            return func(*args, **kwargs)
        if func in MOVES:
            return _move(func, args, kwargs)
        if mine and func in HOST:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is torch._has_compatible_shallow_copy_type:
            return len(mine) in (0, len(given))
        if func is Tensor.__format__:  # of a number, as a real one does
            return format(args[0].item() if args[0].dim() == 0 else args[0].as_subclass(Tensor), *args[1:])
        if func in ENGINE and func is not self.within:  # what autograd calls back is looked at, too
            with Pretence(func):
                return func(*args, **kwargs)
        on_cuda = bool(mine)
        if (named := kwargs.get("device")) is not None and not isinstance(named, OnCuda):
            wanted = torch.device(named).type == "cuda"
            on_cuda, kwargs["device"] = wanted, CPU
            if wanted and isinstance(kwargs.get("generator"), torch.Generator):
                raise RuntimeError(f"{func.__name__}: expected a cuda generator, but found a CPU one")
        if mine and func not in COPIES and named is None:
            for each in given[:1] if func in INDEXES else given:
                if not isinstance(each, OnCuda) and each.dim() > 0:
                    raise RuntimeError(f"{func.__name__}: tensors on cuda:0 and cpu meet, of shape {tuple(each.shape)}")
        found = func(*args, **kwargs)
        for each in tree_leaves(found) if on_cuda else []:
            if isinstance(each, Tensor) and not any(each is one for one in given):
                _claim(each)
        return found


def _claim(tensor: Tensor) -> Tensor:
    """A new tensor becomes the device's: no alias of it, which autograd would see."""
    tensor.__class__ = OnCuda
    return tensor


def _move(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """`.to`, `.cpu` and `.cuda`: a copy where the device is another."""
    (tensor, *rest), target = args, None
    kwargs.pop("non_blocking", None)
    if func in (Tensor.cpu, Tensor.cuda):
        target, rest = (CPU if func is Tensor.cpu else CUDA), []
    kept = list[Any]()
    for each in [*rest, *([kwargs.pop("device")] if kwargs.get("device") is not None else [])]:
        if isinstance(each, str | torch.device):
            target = torch.device(each)
        elif isinstance(each, Tensor):
            target = each.device
            kept.append(each.dtype)
        elif isinstance(each, torch.dtype):  # a flag says whether to wait or copy
            kept.append(each)
    there = isinstance(tensor, OnCuda)
    found = Tensor.to(tensor, *kept, **kwargs) if kept or kwargs else tensor
    if target is not None and (target.type == "cuda") != there:
        there, found = not there, found.clone() if found is tensor else found
    return _claim(found) if there and found is not tensor else found


@contextmanager
def pretended() -> Iterator[None]:
    """One CUDA device, pretended."""
    fork = torch.random.fork_rng
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "get_device_name", lambda *_: "pretended")
        patch.setattr(torch.cuda, "synchronize", lambda *_: None)
        patch.setattr(torch.cuda, "empty_cache", lambda: None)
        patch.setattr(torch.cuda, "reset_peak_memory_stats", lambda *_: None)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda *_: 0)
        patch.setattr(torch.random, "fork_rng", lambda **_: fork(devices=[]))
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            with Pretence():
                yield
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(before)
