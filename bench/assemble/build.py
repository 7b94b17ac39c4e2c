"""Config -> the things a cell is made of: device, samples, model with its weights, defence, attack."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from torch import Tensor

from attacks.query.averaged import Averaged
from bench.assemble import accuracy_check
from bench.config import identity, kinds
from bench.core import threat
from bench.core.errors import BenchError, one_line
from bench.core.victim import FixedRows, Ledger, Victim
from bench.data.source import Source, order, to_float
from bench.models.sets import ModelSet
from bench.models.split import Split
from bench.models.weights import load_file, load_into
from bench.store import artifacts
from defenses.base import Defense
from defenses.deployed import RandomMember

# fields of a method's YAML that its constructor doesn't take
NOT_ARGUMENTS = {"version", "needs", "oracle", "sources", "craft", "labels"}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def make(node: Mapping[str, Any], **objects: Any) -> Any:
    """The object that a YAML describes. Raises BenchError where its constructor refuses the fields."""
    fields = {name: value for name, value in node.items() if name not in NOT_ARGUMENTS}
    try:
        target = str(fields["_target_"])
        kinds.check(target, inspect.get_annotations(_signed(get_object(target))), fields)
        return instantiate(fields | {"_partial_": True, "_convert_": "all"})(**objects)
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise (
            cause if isinstance(cause, BenchError) else BenchError(f"{node.get('_target_')}: {one_line(error)}")
        ) from None
    except TypeError as error:
        raise BenchError(f"{node.get('_target_')} does not fit its YAML: {one_line(error)}") from error


def _signed(made: Any) -> Any:
    """What carries the annotations of a constructor's arguments."""
    return made if is_dataclass(made) or not isinstance(made, type) else made.__init__


def device_of(name: str) -> torch.device:
    """`auto` takes a GPU where one is visible; `cuda` without one is an error, never a silent CPU run."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BenchError(f"device={name} is unknown; use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BenchError(
            f"device={name}, but {torch.cuda.device_count()} CUDA devices are visible; check nvidia-smi and "
            "CUDA_VISIBLE_DEVICES (submitit: gpus_per_node), or set device=cpu"
        )
    return device


@dataclass(frozen=True)
class Samples:
    """A data set's test split in the cell's order."""

    source: Source
    order: Tensor  # (N,) rows of the source
    device: torch.device

    def __len__(self) -> int:
        return len(self.order)

    def numbers(self, positions: list[int]) -> Tensor:
        """(B,) stable sample numbers, on the device."""
        return self.source.ids[self.order[positions]].to(self.device)

    def labels(self, positions: list[int]) -> Tensor:
        return self.source.labels[self.order[positions]].to(self.device)

    def images(self, positions: list[int]) -> Tensor:
        """(B,C,H,W) float32 in [0, 1], on the device."""
        return to_float(self.source.pixels(self.order[positions]), self.device)


def samples(config: Mapping[str, Any], device: torch.device, split: str = "test") -> Samples:
    dataset, chosen = config["dataset"], identity.samples(config)
    source = make(dataset["source"], root=dataset["root"], split=split)
    shape = tuple(source.pixels(torch.arange(1)).shape[1:])
    if shape != tuple(dataset["shape"]):
        raise BenchError(f"dataset.shape={list(dataset['shape'])}, but its images are {list(shape)}; correct the YAML")
    return Samples(source, order(source.labels, chosen["order"], chosen["seed"]), device)


def model(
    config: Mapping[str, Any], whole: Mapping[str, Any], device: torch.device, test: Samples
) -> tuple[Split, str]:
    """The network with its weights, in eval mode, and the sha256 of those. Trains them on first use where a recipe does."""
    numerics = config["numerics"]
    made = trained(config, whole, device, test)
    network = made.deploy(config["model"]["member"]) if isinstance(made, ModelSet) else made
    classes = config["dataset"]["classes"]
    if network.head.out_features != classes:
        raise BenchError(
            f"the model answers {network.head.out_features} classes, but dataset.classes={classes}; choose a model for this data"
        )
    network = network.to(device).eval().requires_grad_(False)
    sha256 = accuracy_check.digest(network)
    seen = {"weights": sha256, "dataset": whole["dataset"], "samples": whole["samples"]}
    accuracy_check.check(Path(config["artifacts"]), seen, accuracy_check.accuracy(network, test))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(numerics["tf32"])
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    return network, sha256


def trained(
    config: Mapping[str, Any], whole: Mapping[str, Any], device: torch.device, test: Samples
) -> Split | ModelSet:
    """The network, or the whole set, with the weights of its recipe where one trains it."""
    from bench.assemble import training  # which needs this file

    made = trainable(config)
    if config["model"]["weights"] in identity.TRAINED:
        folder = artifacts.need(
            Path(config["artifacts"]),
            "weights",
            identity.weights(whole),
            lambda folder: training.run(config, folder, device, test),
        )
        load_into(made, load_file(folder / "weights.safetensors"), "model.build of this config")
    return made


def trainable(config: Mapping[str, Any]) -> Split | ModelSet:
    """The network, or the set of networks, before its recipe's weights."""
    node = config["model"]
    if node["weights"] == "image":
        raise BenchError("this model answers images, no classes: it is for defense.needs.h alone; choose another model")
    if node["weights"] != "set":
        return make(node["build"])
    builds = node["build"] if isinstance(node["build"], list) else [node["build"]] * node["members"]
    if len(builds) != node["members"]:
        raise BenchError(
            f"model.members={node['members']}, but model.build lists {len(builds)} networks; correct either"
        )
    return ModelSet([make(build) for build in builds])


def victim(config: Mapping[str, Any], network: Split, device: torch.device, highest: int) -> Victim:
    """The network behind its defence, with a new ledger."""
    numerics = config["numerics"]
    if numerics["dtype"] not in DTYPES:
        raise BenchError(f"numerics.dtype={numerics['dtype']} is unknown; it is one of {', '.join(DTYPES)}")
    dtype = DTYPES[numerics["dtype"]]
    network.features.to(dtype)
    if numerics["channels_last"]:
        network.features.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    fixed = FixedRows(network, numerics["rows"], dtype, Ledger(highest + 1, device))
    if numerics["compile"]:
        fixed.run = torch.compile(network.features)  # pyright: ignore[reportAttributeAccessIssue]
    return Victim(_defense(config, fixed, device), fixed, config["seed"])


def _defense(config: Mapping[str, Any], fixed: FixedRows, device: torch.device) -> Defense:
    """The defence, given what its `needs` name."""
    needs = dict(config["defense"].get("needs") or {})
    objects: dict[str, Any] = {}
    if wanted := needs.pop("companions", None):  # training images with their true labels
        objects["companions"] = _pool(config, device, wanted)
    if wanted := needs.pop("f_b", None):  # a second network; its filler counts with the victim's
        network = second(config, wanted, device, samples(config, device))
        objects["f_b"] = FixedRows(network, fixed.rows, fixed.dtype, fixed.ledger)
    if wanted := needs.pop("h", None):  # a network from image to image
        from bench.assemble import image_network

        objects["h"] = image_network.network(config, wanted, device)
    if needs:
        raise BenchError(
            f"defense.needs.{next(iter(needs))} is nothing that a cell can build; it builds: companions, f_b, h"
        )
    defense: Defense = make(config["defense"], model=fixed, **objects).to(device).eval()
    if config["model"].get("member") == "random" and not isinstance(defense, RandomMember):
        raise BenchError("model.member=random is deployed by defense=random_member alone; set that, or model.member=0")
    return defense


def second(config: Mapping[str, Any], wanted: Mapping[str, Any], device: torch.device, test: Samples) -> Split:
    """Another network beside the cell's. wanted: {model, recipe}."""
    other = dict(config) | dict(wanted)
    return model(other, identity.identity(other), device, test)[0]


def _pool(config: Mapping[str, Any], device: torch.device, wanted: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """The first n images of a split in seeded order, and their labels. wanted: {split, n}."""
    order = {"n": None, "order": "seeded", "seed": 0}
    pool = samples(dict(config) | {"samples": order}, device, split=wanted["split"])
    chosen = list(range(min(wanted["n"], len(pool))))
    return pool.images(chosen), pool.labels(chosen)


def oracle(config: Mapping[str, Any], victim: Victim) -> Any:
    """Where a white-box attack gets its gradients; None for attacks that ask."""
    return make(config["attack"]["oracle"], victim=victim) if "oracle" in config["attack"] else None


def attack(config: Mapping[str, Any], network: Split | None = None, crafted: Any = None) -> Any:
    """The attack, given what its `needs` name, as an averaging one where `average` or `accept` ask for it.

    network: the bare model, for attacks that begin on it; its passes there are the attacker's own and in no ledger.
    crafted: sample numbers -> images, for an attack that has `sources`.
    """
    limits, numerics = threat.read(config["threat"]), config["numerics"]
    needs = dict(config["attack"].get("needs") or {})
    objects: dict[str, Any] = {} if crafted is None else {"crafted": crafted}
    if wanted := needs.pop("source", None):
        if wanted != "undefended" or network is None:
            raise BenchError(f"attack.needs.source={wanted}: a cell has only its `undefended` network")
        unmetered = Ledger(1, torch.device("cpu"))
        objects["source"] = FixedRows(network, numerics["rows"], DTYPES[numerics["dtype"]], unmetered)
    if wanted := needs.pop("starts", None):
        objects["starts"] = _pool(config, device_of(config["device"]), wanted)
    if needs:
        raise BenchError(
            f"attack.needs.{next(iter(needs))} is nothing that a cell can build; it builds: source, starts"
        )
    made = make(config["attack"], threat=limits, **objects)
    times, accept = config["average"], config["accept"]
    if not identity.asks(config["attack"]):
        if (times, accept) != (1, None):
            raise BenchError("average and accept are for score attacks; a white-box one takes attack/oracle=eot")
        return made
    if limits.feedback == "label" and made.feedback != "label":
        raise BenchError(
            f"{type(made).__name__} reads logits, but threat.feedback=label; use attack=rays, hopskipjump or noise, or "
            "threat.feedback=logits"
        )
    return made if times == 1 and accept is None else Averaged(made, times, accept, config["dataset"]["classes"])
