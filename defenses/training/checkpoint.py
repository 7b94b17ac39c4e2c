"""What a killed training resumes from: weights, momentum and the number of finished epochs, as one safetensors file."""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.core.errors import BenchError, one_line
from bench.models.weights import load_file, load_into

FILE = "state.safetensors"
MOMENTUM = "momentum."


def save(folder: Path, model: nn.Module, optimiser: torch.optim.SGD, seed: int, epoch: int) -> None:
    """Writes beside and renames, so that a kill at any moment leaves a whole file."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    tensors |= {MOMENTUM + name: buffer.contiguous() for name, buffer in _momenta(model, optimiser).items()}
    new = folder / f".tmp-{FILE}"
    try:
        save_file(tensors, new, metadata={"epoch": str(epoch), "seed": str(seed)})
    except SafetensorError as error:  # a full disk, say
        raise BenchError(
            f"can't write {new} ({one_line(error)}); free space or set artifacts=<another folder>"
        ) from None
    with new.open("rb") as stream:
        os.fsync(stream.fileno())
    new.replace(folder / FILE)


def restore(folder: Path, model: nn.Module, optimiser: torch.optim.SGD, seed: int) -> int:
    """Puts the last finished epoch into the model and the optimiser; 0 where there is none."""
    file = folder / FILE
    if not file.is_file():
        return 0
    tensors = load_file(file)
    with safe_open(file, "pt") as stream:
        metadata: dict[str, str] = stream.metadata()
    if metadata["seed"] != str(seed):
        raise BenchError(f"{file} is of seed {metadata['seed']}, not {seed}; delete it to train from the start")
    load_into(model, {name: tensor for name, tensor in tensors.items() if not name.startswith(MOMENTUM)}, str(file))
    for name, parameter in _learning(model).items():
        buffer = torch.empty_like(parameter)  # in the parameter's memory format: SGD works element by element
        optimiser.state[parameter]["momentum_buffer"] = buffer.copy_(tensors[MOMENTUM + name])
    return int(metadata["epoch"])


def _momenta(model: nn.Module, optimiser: torch.optim.SGD) -> dict[str, Tensor]:
    return {name: optimiser.state[parameter]["momentum_buffer"] for name, parameter in _learning(model).items()}


def _learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """Without the frozen ones, which have no momentum."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
