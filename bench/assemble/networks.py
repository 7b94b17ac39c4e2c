"""Every network that a cell needs, trained on first use and found by the hash of what made it: its own, a member of a set, a
second one beside it, one from image to image; and the victim that one is behind its defence. Recipes and defences may name other
networks, so these call each other."""

from collections.abc import Callable, Mapping
from functools import partial as bind
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.assemble import accuracy_check
from bench.assemble.untrained import one_build, untrained
from bench.config import key
from bench.config.instantiate import make, partial
from bench.config.network_specs import FrozenMembers, NetworkSpec, RecipeSpec
from bench.config.specs import CellSpec
from bench.core.device import DTYPES, keep_memory, set_arithmetic, strict_arithmetic
from bench.core.errors import BenchError, nearest
from bench.core.place import Place
from bench.core.victim import FixedRows, Ledger, Victim
from bench.data import samples
from bench.data.samples import Samples, split_of
from bench.data.source import Source
from bench.models.pooling import quicken
from bench.models.sets import ModelSet
from bench.models.split import Split, even, lower
from bench.models.weights import load_file, load_into, write_record
from bench.store import artifacts
from defenses.base import Defense
from defenses.deployed import RandomMember
from defenses.training.loop import train


def deployed(spec: CellSpec, test: Samples, store: Place, given: Split | None = None) -> tuple[Split, str]:
    """The cell's network with its weights, in eval mode, and the sha256 of those. store: the artifacts' folder. given: it, where
    it is no config's but somebody's object."""
    set_arithmetic(spec.numerics.tf32)
    keep_memory()
    made = given or trained(spec, test, store)
    network = made.deploy(spec.model.member) if isinstance(made, ModelSet) else made
    _check_width(made, spec)
    network = network.to(test.device).eval().requires_grad_(False)
    even(network)
    quicken(network)
    sha256, order = accuracy_check.digest(network), {"order": spec.samples.order, "seed": spec.samples.seed}
    seen = {"weights": sha256, "dataset": spec.dataset.plain(), "samples": order}
    accuracy_check.check(store, seen, accuracy_check.accuracy(network, test))
    return network, sha256


def _check_width(made: Split | ModelSet, spec: CellSpec) -> None:
    """Raises BenchError for a network, or a set's, that answers another number of classes than the data set has."""
    for network in made.members if isinstance(made, ModelSet) else [made]:
        if network.head.out_features != spec.dataset.classes:
            raise BenchError(
                f"the model answers {network.head.out_features} classes, but dataset.classes={spec.dataset.classes}; choose a "
                "model for this data"
            )


def will_train(spec: CellSpec, store: Place) -> bool:
    """Are the weights of its recipe still to be made?"""
    return spec.model.trained and not artifacts.there(store, "weights", key.of(spec.weights_identity()))


def second(spec: CellSpec, other: NetworkSpec, place: str, test: Samples, store: Place) -> Split:
    """Another network beside the cell's. place: where the config names it."""
    return deployed(spec.beside(other, place), test, store)[0]


def build_victim(spec: CellSpec, network: Split, test: Samples, store: Place) -> Victim:
    """store: the artifacts' folder, for the networks that the defence needs beside the cell's."""
    numerics, dtype = spec.numerics, DTYPES[spec.numerics.dtype]
    takes = lower(network.features, dtype)
    if numerics.channels_last:
        network.features.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    fixed = FixedRows(network, numerics.rows, takes, Ledger(test.highest + 1, test.device))
    if numerics.compile:
        fixed.run = torch.compile(network.features)  # pyright: ignore[reportAttributeAccessIssue]
    return Victim(_defense(spec, fixed, test, store), fixed, spec.seed)


def _defense(spec: CellSpec, fixed: FixedRows, test: Samples, store: Place) -> Defense:
    """The defence, given what its `needs` name."""
    needs, objects = spec.defense.needs, dict[str, Any]()
    if needs and needs.companions:
        objects["companions"] = samples.pool(spec.dataset, needs.companions, test.device)
    if needs and needs.f_b:  # its filler counts with the victim's
        network = second(spec, needs.f_b, "defense.needs.f_b", test, store)
        takes = lower(network.features, DTYPES[spec.numerics.dtype])
        objects["f_b"] = FixedRows(network, fixed.rows, takes, fixed.ledger)
    if needs and needs.h:
        objects["h"] = image_to_image(spec, needs.h, "defense.needs.h", test, store)
    fixed.asker = spec.defense.target
    defense: Defense = make(spec.defense, model=fixed, **objects).to(test.device).eval()
    if spec.model.member == "random" and not isinstance(defense, RandomMember):
        raise BenchError("model.member=random is deployed by defense=random_member alone; set that, or model.member=0")
    return defense


def image_to_image(spec: CellSpec, other: NetworkSpec, place: str, test: Samples, store: Place) -> nn.Module:
    """(B,C,H,W) -> (B,C,H,W), in eval mode. Raises BenchError for a model that answers classes."""
    if other.model.weights != "image":
        raise BenchError(f"{place}.model is no network from image to image; set model@{place}.model=h_small")
    beside = spec.beside(other, place)
    made = make(one_build(beside.model))
    _load(made, beside, store, lambda folder: _train_image_to_image(beside, made, folder, test, store), place)
    return made.to(test.device).eval().requires_grad_(False)


def trained(spec: CellSpec, test: Samples, store: Place) -> Split | ModelSet:
    """The network, or the whole set, with the weights of its recipe where one trains it."""
    made = untrained(spec)
    if spec.model.trained:
        _check_width(made, spec)  # before epochs of it
        _load(made, spec, store, lambda folder: _train(spec, folder, test, store))
    return made


def _load(made: nn.Module, spec: CellSpec, store: Place, once: Callable[[Path], None], place: str = "") -> None:
    folder = artifacts.need(store, "weights", spec.weights_identity(), once)
    what = f"{place}.model.build of this config" if place else "model.build of this config"
    load_into(made, load_file(folder / "weights.safetensors"), what)


def _train(spec: CellSpec, folder: Path, test: Samples, store: Place) -> None:
    """Into `folder`: weights.safetensors and the record beside it."""
    recipe, network = _recipe(spec), untrained(spec)
    if recipe.frozen is not None:
        _freeze(spec, network, recipe.frozen, test, store)
    others = _others(spec, recipe, test, store)
    source = split_of(spec.dataset, "train")
    data = None if recipe.data is None else _changed(spec, recipe, source, others, test.device, store)
    start = None if recipe.start is None else _start(others, recipe.start)
    # other networks are for what changes the images, where a recipe has that, else for the loss
    loss = partial(recipe.loss, **({} if recipe.data is not None else others))
    with strict_arithmetic():
        train(
            network,
            source,
            recipe,
            loss,
            seed=spec.seed,
            folder=folder,
            device=test.device,
            check=test.source,
            data=data,
            start=start,
        )
        reached = accuracy_check.accuracy(network.eval(), test)
    _finish(network, folder, reached)


def _train_image_to_image(spec: CellSpec, made: nn.Module, folder: Path, test: Samples, store: Place) -> None:
    recipe, data, device = _recipe(spec), None, test.device
    others, source = _others(spec, recipe, test, store), split_of(spec.dataset, "train")
    if recipe.data is None:
        loss = partial(recipe.loss, **others)
    else:  # the images that f_a's recipe cached under the same settings, beside their g
        loss = partial(recipe.loss)
        moved = _changed(spec, recipe, source, others, device, store)
        pairs = recipe.data.model_copy(update={"target": "defenses.recipes.reparameterise.pairs"})
        data = make(pairs, source=source, moved=moved, seed=spec.seed, device=device)
    with strict_arithmetic():
        train(made, source, recipe, loss, seed=spec.seed, folder=folder, device=device, check=None, data=data)
    _finish(made, folder)


def _recipe(spec: CellSpec) -> RecipeSpec:
    assert spec.recipe is not None, "a model that is trained has a recipe: CellSpec sees to it"
    return spec.recipe


def _others(spec: CellSpec, recipe: RecipeSpec, test: Samples, store: Place) -> dict[str, Split | Victim]:
    """The other networks of a recipe, by name; one that names its defence comes as a victim."""
    found: dict[str, Split | Victim] = {}
    for name, other in (recipe.needs or {}).items():
        place = f"recipe.needs.{name}"
        found[name] = network = second(spec, other, place, test, store)
        if other.defense is not None:
            beside = spec.beside(other, place).replace(defense=other.defense)
            found[name] = build_victim(beside, network, test, store)
    return found


def _start(others: Mapping[str, Split | Victim], name: str) -> dict[str, Tensor]:
    """The weights that a training starts from."""
    if name not in others:
        raise BenchError(f"recipe.start={name} is none of recipe.needs{nearest(name, others)}")
    other = others[name]
    return (other.model.network if isinstance(other, Victim) else other).state_dict()


def _freeze(spec: CellSpec, network: Split | ModelSet, frozen: FrozenMembers, test: Samples, store: Place) -> None:
    """The set's first members come from a smaller set of the same networks."""
    if not isinstance(network, ModelSet):
        raise BenchError(
            "recipe.frozen adds networks to a trained set; choose a model whose weights are a set, model=set_…"
        )
    if not 2 <= frozen.members < len(network):
        raise BenchError(
            f"recipe.frozen.members={frozen.members} must lie between 2 and model.members={len(network)} - 1, which leaves "
            "one to train"
        )
    build = spec.model.build
    fewer: dict[str, Any] = {"members": frozen.members} | (
        {"build": build[: frozen.members]} if isinstance(build, list) else {}
    )
    made = trained(spec.replace(model=spec.model.model_copy(update=fewer), recipe=frozen.recipe), test, store)
    assert isinstance(made, ModelSet)
    network.freeze(made)


def _changed(
    spec: CellSpec,
    recipe: RecipeSpec,
    source: Source,
    others: Mapping[str, Split | Victim],
    device: torch.device,
    store: Place,
) -> dict[str, Tensor]:
    """Training images that a recipe changes once, as an artifact: {pixels (N,H,W,C), labels (N,)}."""
    assert recipe.data is not None
    needs = {name: other.plain() for name, other in recipe.needs.items()} if recipe.needs else None
    content = {"kind": "changed", "dataset": spec.dataset.plain(), "data": recipe.data.plain(), "needs": needs}
    once = bind(make, recipe.data, source=source, seed=spec.seed, device=device, **others)

    def build(folder: Path) -> None:
        with strict_arithmetic():
            save_file(once(), folder / "data.safetensors")

    folder = artifacts.need(store, "data", content | {"seed": spec.seed}, build)
    return load_file(folder / "data.safetensors")


def _finish(network: nn.Module, folder: Path, accuracy: float | None = None) -> None:
    """Writes weights.safetensors and its record; what served to resume the training goes."""
    state = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    write_record(folder / "weights.safetensors", accuracy)
    (folder / "state.safetensors").unlink(missing_ok=True)
