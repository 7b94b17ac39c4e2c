"""A network from image to image beside the cell's classifier (the h of a reparameterisation attack): trained by its recipe on
first use and found by the hash of what made it, as every other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.assemble import build, training
from bench.config import identity
from bench.core.errors import BenchError
from bench.models.weights import load_file, load_into
from bench.store import artifacts


def network(config: Mapping[str, Any], wanted: Mapping[str, Any], device: torch.device) -> nn.Module:
    """(B,C,H,W) -> (B,C,H,W), in eval mode. wanted: {model, recipe}. Raises BenchError for a model that answers classes."""
    other = dict(config) | dict(wanted)
    if other["model"]["weights"] != "image":
        raise BenchError(
            "defense.needs.h.model is no network from image to image; set model@defense.needs.h.model=h_small"
        )
    made = build.make(other["model"]["build"])
    content = identity.weights(identity.identity(other))
    folder = artifacts.need(
        Path(config["artifacts"]), "weights", content, lambda folder: _train(other, made, folder, device)
    )
    load_into(made, load_file(folder / "weights.safetensors"), "needs.h.model.build of this config")
    return made.to(device).eval().requires_grad_(False)


def _train(config: Mapping[str, Any], made: nn.Module, folder: Path, device: torch.device) -> None:
    from defenses.training.loop import train

    source, recipe, data = training.images(config), dict(config["recipe"]), None
    others = training.needed(config, recipe, device, build.samples(config, device))
    if "data" in recipe:  # the images that f_a's recipe cached under the same settings, beside their g
        node = recipe.pop("data")
        moved = training.changed(config, node, source, others, device)
        pairs = node | {"_target_": "defenses.recipes.reparameterise.pairs"}
        data = build.make(pairs, source=source, moved=moved, seed=config["seed"], device=device)
    else:
        recipe["loss"] = build.make(recipe["loss"], **others)
    train(made, source, recipe, seed=config["seed"], folder=folder, device=device, check=None, data=data)
    training.finish(made, folder)
