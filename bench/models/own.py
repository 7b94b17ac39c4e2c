"""Any network that answers logits, as this harness needs it: x (B, C, H, W) in [0, 1] -> (B, K).

Its last Linear becomes the head where the network ends with one; else it stays whole, and only a defence that works on features
refuses it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError, one_line
from bench.models.split import NoHead, Normalise, Split, probe_of, split_at_last_linear
from bench.models.weights import fitted, load_file, load_into, locate


class Answering(nn.Module):
    """The logits of a network that answers more: a tuple's entry, a mapping's, or the `mean` of all (two heads)."""

    def __init__(self, network: nn.Module, output: str | int | None) -> None:
        super().__init__()
        self.network, self.output = network, output

    def forward(self, x: Tensor) -> Tensor:
        answer = self.network(x)
        if isinstance(answer, Tensor) and self.output is None:
            return answer
        return self._chosen(answer)

    def _chosen(self, answer: Any) -> Tensor:
        named = dict(answer) if isinstance(answer, Mapping) else None
        parts = list(answer) if isinstance(answer, tuple | list) else list((named or {}).values())
        if self.output == "mean" and parts and all(isinstance(part, Tensor) for part in parts):
            return torch.stack(parts).mean(0)
        wanted = "logits" if self.output is None and named is not None else self.output
        if named is not None and wanted in named:
            return named[wanted]
        if named is None and isinstance(wanted, int) and not isinstance(wanted, bool) and wanted < len(parts):
            return parts[wanted]
        there = ", ".join(map(str, named)) if named is not None else f"0 to {len(parts) - 1}" if parts else "one tensor"
        raise BenchError(
            f"{type(self.network).__name__} answers {type(answer).__name__} ({there}), so it must be said where the logits are: "
            f"model.own.output={self.output} is none of it; set it to one of these or to mean"
        )

    def train(self, mode: bool = True) -> "Answering":
        self.training = mode
        for module in self.children():
            try:
                module.train(mode)
            except NotImplementedError:  # torch.export's graphs are as they were exported
                module.training = mode
        return self


def wrapped(
    network: Any,
    shape: Sequence[int],
    *,
    file: str | None = None,
    root: str | None = None,
    sha256: str | None = None,
    output: str | int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Split:
    """shape: of the images (C, H, W). file: its state dict (below root, or absolute), whose prefixes module., _orig_mod. and
    model. are taken off. mean, std: what its pixels are normalised by; null: it does so itself. Raises BenchError where it is no
    network, the file is another's, or images of this shape get no (B, K) logits."""
    if not isinstance(network, nn.Module):
        raise BenchError(f"model.build._target_ makes a {type(network).__name__}, no torch.nn.Module")
    if (mean is None) != (std is None) or any(v is not None and len(v) not in (1, shape[0]) for v in (mean, std)):
        raise BenchError(
            f"model.own.mean={mean} and std={std} go together, one number a channel of dataset.shape={list(shape)}"
        )
    if file is not None:
        state = load_file(locate(root, file), sha256)
        load_into(network, fitted(state, network.state_dict()), f"{type(network).__name__}")
    answering = Answering(network, output).eval()
    probe = probe_of(shape)
    logits = _answer(
        answering if mean is None or std is None else nn.Sequential(Normalise(mean, std), answering), probe
    )
    try:
        return split_at_last_linear(answering, shape, mean, std)
    except (BenchError, RuntimeError, TypeError):  # no Linear ends it, or it does not live without one
        whole = answering if mean is None or std is None else nn.Sequential(Normalise(mean, std), answering)
        return Split(whole, NoHead(type(network).__name__, logits.shape[1]), shape).eval()


def _answer(network: nn.Module, probe: Tensor) -> Tensor:
    name = type(network[-1].network if isinstance(network, nn.Sequential) else network.network).__name__
    try:
        with torch.no_grad():
            logits = network(probe)
    except BenchError:
        raise
    except Exception as error:  # whatever someone else's network raises
        raise BenchError(
            f"{name} can't take images of dataset.shape={list(probe.shape[1:])} in [0, 1] ({one_line(error)[:160]}); choose a "
            "data set of its size (resize and crop belong to the data set), or export it with a free batch axis"
        ) from None
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(probe):
        answer = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise BenchError(
            f"{name} answers {answer} for 2 images, not logits (2, classes); set model.own.output to those"
        )
    return logits
