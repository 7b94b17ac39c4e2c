"""Any RobustBench entry by its name. All that release 1.1.1 needs to work stands here; imported only when used.

- it imports `pkg_resources`, which setuptools 82 dropped: pyproject pins setuptools<81;
- it imports a module `autoattack` that no index provides; it depends on `pyautoattack`, the same code: aliased;
- it installs a top-level package `tests`: ours has an __init__.py and pytest runs in importlib mode, so both live;
- its loader leaves torch.load's `weights_only` to the caller's torch: forced to True here, after a look at each file.
"""

import importlib
import sys
import warnings
from pathlib import Path
from types import ModuleType

import torch

from bench.core.errors import BenchError, nearest, one_line
from bench.models.download import cache, fetched, no_pickled_code
from bench.models.split import Split, split_at_last_linear
from bench.models.weights import load_content, verify

SHAPES = {"cifar10": (3, 32, 32), "cifar100": (3, 32, 32), "imagenet": (3, 224, 224)}


def robustbench_model(name: str, dataset: str = "cifar10", threat: str = "Linf", root: str | None = None) -> Split:
    """root: a folder of downloads in RobustBench's layout; what it lacks is fetched into torch's cache."""
    zoo = imported()
    entries = _entries(zoo, dataset, threat)
    if name not in entries:
        raise BenchError(f"robustbench has no {dataset} {threat} entry {name!r}{nearest(name, entries)}")
    folder = _folder(zoo, name, f"{dataset}/{threat}/{name}.pt", entries[name]["gdrive_id"], root)
    try:
        with no_pickled_code(), torch.random.fork_rng(devices=[]):
            model = zoo.load_model(name, model_dir=folder, dataset=dataset, threat_model=threat)
    except Exception as error:  # torch, timm, gdown and urllib each raise their own
        raise BenchError(
            f"robustbench could not load {name} ({one_line(error)[:160]}); if a file in {folder} is at fault, delete "
            f"it; if the network is, load the model once where there is one and bring torch's cache (TORCH_HOME)"
        ) from None
    return split_at_last_linear(model, SHAPES[dataset])  # they normalise by themselves


def imported() -> ModuleType:
    """robustbench.utils, importable."""
    for ours in ("autoattack", "autoattack.state"):
        if ours not in sys.modules:
            sys.modules[ours] = importlib.import_module("py" + ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of pkg_resources and of old timm paths
        try:
            return importlib.import_module("robustbench.utils")
        except ModuleNotFoundError as error:
            raise BenchError(
                f"robustbench can't be imported ({one_line(error)}); install the dependencies anew"
            ) from None


def _entries(zoo: ModuleType, dataset: str, threat: str) -> dict[str, dict]:
    if dataset not in SHAPES:
        raise BenchError(f"robustbench has no data set {dataset!r}{nearest(dataset, SHAPES)}")
    threats = {kind.value: entries for kind, entries in zoo.all_models[zoo.BenchmarkDataset(dataset)].items()}
    if threat not in threats:
        raise BenchError(f"robustbench has no threat {threat!r} for {dataset}{nearest(threat, threats)}")
    return threats[threat]


def _folder(zoo: ModuleType, name: str, place: str, drive: str | list[str] | None, root: str | None) -> Path:
    """The folder that holds, at the place RobustBench gives it, each file of the entry; each is looked at."""
    if not drive:  # timm or torchvision fetches these by itself
        return cache("robustbench")
    if not hasattr(zoo, "download_gdrive_new"):
        raise BenchError(
            "this robustbench is not whole (torchattacks brings files of its own in its place); "
            "pip install --force-reinstall --no-deps robustbench"
        )
    files = {place: drive} if isinstance(drive, str) else {f"{place}_m{i}.pt": part for i, part in enumerate(drive)}
    given = root is not None and all((Path(root) / file).is_file() for file in files)
    folder = Path(root) if root is not None and given else cache("robustbench")
    for file, part in files.items():
        path = folder / file
        fetched(path, lambda to, part=part: zoo.download_gdrive_new(part, to), f"robustbench's {name}")
        verify(path)
        load_content(path)
    return folder
