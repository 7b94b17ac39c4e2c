"""Plain Hydra makes every YAML node. How any recipe is brought down to one epoch of 64 images, with the networks that it `needs`:
tests/run/test_pretended_device.py trains them all."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bench.config import grid, places

SETS = ("adp", "disjoint", "standard_set", "fast_at_disjoint", "fast_at_set")
SHRUNK = {"epochs": 1, "images": 64, "batch": 32}


def words(recipe: str) -> list[str]:
    """A model of digits that the recipe can train."""
    if recipe.startswith("reparameterisation"):
        return ["model=h_small"]
    if recipe.startswith("distilled"):
        return [
            "model=small_cnn",
            "+model@recipe.needs.f_a.model=small_cnn",
            "+recipe@recipe.needs.f_a.recipe=standard_digits",
        ]
    if recipe.startswith("answers"):
        return [
            "model=small_cnn",
            "+model@recipe.needs.victim.model=small_cnn",
            "+recipe@recipe.needs.victim.recipe=standard_digits",
            "+defense@recipe.needs.victim.defense=rnd",
        ]
    if recipe.startswith("pni"):
        return ["model=pni_small_cnn"]
    if not recipe.startswith(SETS):
        return ["model=small_cnn"]
    found: Any = OmegaConf.load(places.CONF / "recipe" / f"{recipe}.yaml")
    frozen = int(OmegaConf.select(found, "frozen.members") or 0)
    return ["model=set_small_cnn", f"model.members={max(3, frozen + 1)}"]


def shrunk(node: Any, network: Any) -> Any:
    """The recipe's settings, and those of every recipe within, for one epoch of 64 images; `network` (a model of digits) in the
    place of the classifiers that it needs."""
    if isinstance(node, list):
        return [shrunk(each, network) for each in node]
    if not isinstance(node, dict):
        return node
    small = {name: shrunk(value, network) for name, value in node.items()}
    if "model" in small and small["model"]["weights"] != "image":
        small["model"] = network
    if isinstance(small.get("data"), dict) and "images" in small["data"]:
        small["data"] |= {"images": 64}
    if "epochs" in small and "loss" in small:
        small |= SHRUNK | {name: False for name in ("compile", "bf16") if name in small}
    return small


def nodes(group: str, choice: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every `_target_` of a composed choice."""
    typed = [f"{group}={choice}"] if group != "recipe" else [f"recipe={choice}", *words(choice)]
    stack: list[tuple[str, Any]] = [(group, grid.base(typed)[group])]
    while stack:
        name, node = stack.pop()
        if isinstance(node, dict):
            if node.get("_target_"):
                yield name, node
            stack += [(f"{name}.{key}", value) for key, value in node.items()]
        elif isinstance(node, list):
            stack += [(f"{name}.{i}", value) for i, value in enumerate(node)]


NODES = [(group, choice) for group in ("attack", "defense", "recipe", "dataset") for choice in places.choices(group)]


@pytest.mark.slow
@pytest.mark.parametrize(("group", "choice"), NODES)
def test_plain_hydra_makes_every_node(group: str, choice: str) -> None:
    """Bound, since the objects of a cell (threat, model, victim) are no settings."""
    for name, node in nodes(group, choice):
        made = instantiate(OmegaConf.create(node), _partial_=True, _recursive_=False)
        assert isinstance(made, partial), name
        kept = set(node) - {"_target_", "_partial_", "_convert_", "_recursive_"}
        assert kept <= set(made.keywords), name


ANY = ("hf", "mine", "program", "robustbench", "timm", "torchvision")  # of whatever name or file is typed


@pytest.mark.slow
@pytest.mark.parametrize("choice", [each for each in places.choices("model") if each not in ANY])
def test_plain_hydra_makes_every_model_that_needs_no_file(choice: str) -> None:
    build = grid.base([f"model={choice}"])["model"]["build"]
    for node in build if isinstance(build, list) else [build]:
        made = instantiate(node, _partial_=True)
        assert callable(made)
        if "root" not in node and choice.endswith(("small_cnn", "h_small")):
            assert isinstance(instantiate(node), torch.nn.Module)
