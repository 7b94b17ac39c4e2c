"""The training of a cell's weights, on first use: its network or set, the images and the loss that its recipe names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.assemble import accuracy_check, build
from bench.config import identity
from bench.core.errors import BenchError
from bench.data.source import Source
from bench.models.sets import ModelSet
from bench.models.split import Split
from bench.models.weights import load_file, write_record
from bench.store import artifacts
from defenses.training.loop import train


def run(config: Mapping[str, Any], folder: Path, device: torch.device, test: build.Samples) -> None:
    """Into `folder`: weights.safetensors and the record beside it."""
    network = build.trainable(config)
    source, recipe = images(config), dict(config["recipe"])
    if wanted := recipe.pop("frozen", None):
        _freeze(config, network, wanted, device, test)
    others = needed(config, recipe, device, test)
    data = changed(config, recipe.pop("data"), source, others, device) if "data" in recipe else None
    if others and data is None:  # the loss itself needs them
        recipe["loss"] = build.make(recipe["loss"], **others)
    train(network, source, recipe, seed=config["seed"], folder=folder, device=device, check=test.source, data=data)
    finish(network, folder, accuracy_check.accuracy(network.eval(), test))


def images(config: Mapping[str, Any]) -> Source:
    """The training split."""
    return build.make(config["dataset"]["source"], root=config["dataset"]["root"], split="train")


def needed(
    config: Mapping[str, Any], recipe: dict[str, Any], device: torch.device, test: build.Samples
) -> dict[str, Split]:
    """The other networks of a recipe, by name; its `needs` are taken off it."""
    needs = dict(recipe.pop("needs", None) or {})
    return {name: build.second(config, wanted, device, test) for name, wanted in needs.items()}


def finish(network: nn.Module, folder: Path, accuracy: float | None = None) -> None:
    """Writes weights.safetensors and its record; what served to resume the training goes."""
    state = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    write_record(folder / "weights.safetensors", accuracy)
    (folder / "state.safetensors").unlink(missing_ok=True)


def _freeze(
    config: Mapping[str, Any],
    network: Split | ModelSet,
    wanted: Mapping[str, Any],
    device: torch.device,
    test: build.Samples,
) -> None:
    """The set's first members come from a smaller set of the same networks. wanted: {members, recipe}."""
    if not isinstance(network, ModelSet):
        raise BenchError(
            "recipe.frozen adds networks to a trained set; choose a model whose weights are a set, model=set_…"
        )
    if not 2 <= wanted["members"] < len(network):
        raise BenchError(
            f"recipe.frozen.members={wanted['members']} must lie between 2 and model.members={len(network)} - 1, which leaves "
            "one to train"
        )
    smaller = dict(config["model"]) | {"members": wanted["members"]}
    if isinstance(smaller.get("build"), list):
        smaller["build"] = smaller["build"][: wanted["members"]]
    other = dict(config) | {"model": smaller, "recipe": wanted["recipe"]}
    made = build.trained(other, identity.identity(other), device, test)
    assert isinstance(made, ModelSet)
    network.freeze(made)


def changed(
    config: Mapping[str, Any], node: Mapping[str, Any], source: Source, others: Mapping[str, Any], device: torch.device
) -> dict[str, Tensor]:
    """Training images that a recipe changes once, as an artifact: {pixels (N,H,W,C), labels (N,)}."""
    seed, needs = config["seed"], config["recipe"].get("needs")
    content = {"kind": "changed", "dataset": config["dataset"], "data": node, "needs": needs, "seed": seed}

    def once(folder: Path) -> None:
        save_file(build.make(node, source=source, seed=seed, device=device, **others), folder / "data.safetensors")

    folder = artifacts.need(Path(config["artifacts"]), "data", identity.plain(content), once)
    return load_file(folder / "data.safetensors")
