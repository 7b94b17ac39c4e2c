"""Any torchvision classifier by its name, with published weights that are named or those of a file."""

from pathlib import Path
from urllib.parse import urlparse

import torch
from torchvision import models

from bench.core.errors import BenchError, nearest
from bench.models.download import cache, fetched
from bench.models.split import Split, split_at_last_linear
from bench.models.weights import load_file, load_into, locate


def torchvision_model(
    name: str, weights: str, root: str | None = None, file: str | None = None, sha256: str | None = None
) -> Split:
    """weights: an entry of the network's enum (IMAGENET1K_V2, ...); it also names the input size, mean and std. Raises BenchError
    for DEFAULT, which is another entry in another version of torchvision."""
    names = models.list_models(models)
    if name not in names:
        raise BenchError(f"torchvision has no classifier {name!r}{nearest(name, names)}")
    entries = models.get_model_weights(name)
    if weights not in (pinned := [entry for entry in entries.__members__ if entry != "DEFAULT"]):
        raise BenchError(f"torchvision's {name} has no weights {weights!r}{nearest(weights, pinned)}")
    entry = entries[weights]
    asked = entry.transforms()
    with torch.random.fork_rng(devices=[]):
        model = models.get_model(name, num_classes=len(entry.meta["categories"]))
    path = _file(entry, name) if file is None else locate(root, file)
    load_into(model, load_file(path, sha256), f"torchvision's {name}")
    size = asked.crop_size[0]
    return split_at_last_linear(model, (3, size, size), asked.mean, asked.std)


def _file(entry: models.WeightsEnum, name: str) -> Path:
    file = cache("torchvision") / Path(urlparse(entry.url).path).name
    start = file.stem.rpartition("-")[2]  # these names end in the first digits of their sha256
    what = f"torchvision's {name} from {entry.url}"
    return fetched(file, lambda part: torch.hub.download_url_to_file(entry.url, str(part), start), what)
