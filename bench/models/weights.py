"""Weights: from a file without running anybody's code, or fresh from a seed.

A file may have a record beside it, `<file>.sha256` = {"sha256": ..., "accuracy": ... when known}: written at the first
download, checked at every load.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as read_safetensors
from torch import Tensor, nn

from bench.core.errors import BenchError, one_line


def load_file(path: str | Path, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file, on the CPU. sha256: what the caller's YAML promises, if anything."""
    file = Path(path)
    if not file.is_file():
        raise BenchError(f"no weights at {file}; put the file there, or set BENCH_WEIGHTS to the folder of {file.name}")
    verify(file, sha256)
    return tensors_of(load_content(file), file)


def load_content(file: Path) -> Any:
    """What a safetensors or torch file holds, or one line on why it is neither."""
    start = _first_bytes(file)
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise BenchError(
            f"{file} is an HTML page, no checkpoint: the download got an error or login page; fetch it anew"
        )
    if file.suffix != ".safetensors":
        return _load_torch(file)
    try:
        return read_safetensors(file)
    except SafetensorError as error:
        raise BenchError(f"{file} is truncated or no safetensors file ({one_line(error)}); fetch it anew") from None


def verify(file: Path, sha256: str | None = None) -> None:
    """Compares the file with what the YAML promises, or else with the record beside it."""
    wanted = sha256 or read_record(file).get("sha256")
    if wanted and (found := digest(file)) != wanted:
        raise BenchError(
            f"{file} has sha256 {found}, but {wanted} was recorded; fetch the file anew, "
            f"or correct the record (the YAML's sha256, or {record_path(file).name}) if the change is meant"
        )


def _load_torch(file: Path) -> Any:
    """A torch file's content through torch's restricted unpickler: plain data alone, nothing in the file is called."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types here, UnpicklingError and RuntimeError among them
        text = one_line(error)
        if "Unsupported global" in text or "weights_only" in text.lower().replace(" ", "_"):
            raise BenchError(
                f"{file} holds pickled code, not only tensors; it was refused and nothing in it ran; "
                f"save the state dict alone, best as .safetensors"
            ) from None
        raise BenchError(f"{file} is truncated or no torch checkpoint ({text[:120]}); fetch it anew") from None


def tensors_of(content: Any, file: Path) -> dict[str, Tensor]:
    """A state dict, also where it lies one level down (`state_dict`, `model`, …) or comes from DataParallel (`module.`)."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise BenchError(f"{file} holds no state dict (a mapping of names to tensors); save model.state_dict() alone")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel's, torch.compile's, and that of a wrapper


def fitted(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without prefixes that all its names share and `wanted` lacks."""
    found = dict(state)
    while found and not found.keys() & wanted.keys():
        prefix = next((each for each in PREFIXES if all(name.startswith(each) for name in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def load_into(model: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Strict loading whose error is a line and not a page."""
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    faults = [
        f"{kind} {_some(names)}"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("other shape:", shapes))
        if names
    ]
    if faults:
        raise BenchError(f"these weights are of another architecture than {what}: {'; '.join(faults)}")
    model.load_state_dict(dict(state))


def fresh(model: nn.Module, seed: int) -> None:
    """Draws all weights anew from the seed, on the CPU: a model doesn't depend on when or where it was built."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def record_path(file: Path) -> Path:
    return file.with_name(file.name + ".sha256")


def read_record(file: Path) -> dict[str, Any]:
    record = record_path(file)
    if not record.is_file():
        return {}
    try:
        content = json.loads(record.read_text())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise BenchError(f'{record} is no record of the form {{"sha256": "..."}}; delete it to have it written anew')
    return content


def write_record(file: Path, accuracy: float | None = None) -> None:
    """Fixes what the file is from now on; a known accuracy stays when none is given."""
    record = {**read_record(file), "sha256": digest(file)} | ({} if accuracy is None else {"accuracy": accuracy})
    new = record_path(file).with_suffix(f".tmp-{os.getpid()}")
    new.write_text(json.dumps(record) + "\n")
    new.replace(record_path(file))


def locate(root: str | Path | None, file: str | Path | None) -> Path:
    """The file below the root that a YAML names; an absolute file needs no root."""
    if file is None:
        raise BenchError("this model has no weights file; set model.build.file=/path/to/weights.safetensors")
    here = Path(file).expanduser()
    if root is None and not here.is_absolute() and not here.is_file():  # one in the working directory is meant
        raise BenchError(f"{file} lies in a folder that isn't set; set BENCH_WEIGHTS=/its/folder (or model.build.root)")
    return Path(root or "").expanduser() / Path(file).expanduser()


def _first_bytes(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(512)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
