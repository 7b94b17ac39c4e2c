"""Any timm classifier by its name (`arch` or `arch.tag`), with its published weights or those of a file."""

from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.data import resolve_data_config

from bench.core.errors import BenchError, nearest
from bench.models.download import cache, fetched, no_pickled_code
from bench.models.split import Split, split_at_last_linear
from bench.models.weights import load_file, load_into, locate


def timm_model(
    name: str,
    shape: Sequence[int] | None = None,
    root: str | None = None,
    file: str | None = None,
    sha256: str | None = None,
) -> Split:
    """shape: for networks that take any size; else the one in timm's pretrained_cfg, as are mean and std.

    Raises BenchError for a name without a tag where timm publishes several weights: its choice among them changes with its
    version, and for some networks it is one trained on far more than ImageNet-1k.
    """
    if not timm.is_model(name.partition(".")[0]):
        raise BenchError(f"timm has no network {name!r}{nearest(name, timm.list_models())}")
    published = timm.list_models(f"{name}.*", pretrained=True)
    if "." not in name and len(published) > 1:
        raise BenchError(f"timm has several weights of {name}; name those that you mean: {', '.join(published)}")
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model(name, pretrained=False)
    config = resolve_data_config({}, model=model)
    load_into(model, load_file(_file(name) if file is None else locate(root, file), sha256), f"timm's {name}")
    return split_at_last_linear(model, shape or config["input_size"], config["mean"], config["std"])


def _file(name: str) -> Path:
    """timm picks the source itself (a hub or a plain address), so what it has loaded is what we keep."""

    def fetch(part: Path) -> None:
        with no_pickled_code(), torch.random.fork_rng(devices=[]):
            state = timm.create_model(name, pretrained=True).state_dict()
        save_file({key: tensor.clone().contiguous() for key, tensor in state.items()}, part)

    return fetched(cache("timm") / f"{name}.safetensors", fetch, f"timm's {name}")
