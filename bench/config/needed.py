"""Every network that a cell takes: its own, and those of its defence, its attack and its recipes. Imports no torch."""

from collections.abc import Iterator, Mapping

from bench.config.network_specs import DefenseSpec, NetworkSpec
from bench.config.specs import AttackSpec, CellSpec


def networks(spec: CellSpec) -> Iterator[CellSpec]:
    """Each as the cell with that network in the model's place, after those that its training takes; one may come twice. Raises
    BenchError for a network that is trained but names no recipe."""
    yield from _network(spec)
    yield from _of_defense(spec, spec.defense)
    yield from _of_attack(spec, spec.attack)


def _network(spec: CellSpec) -> Iterator[CellSpec]:
    recipe = spec.recipe
    if recipe is not None and spec.model.trained:
        yield from _beside(spec, recipe.needs, "recipe.needs")
        if recipe.frozen is not None:
            members, build = recipe.frozen.members, spec.model.build
            fewer = {"members": members, "build": build[:members] if isinstance(build, list) else build}
            yield from _network(spec.replace(model=spec.model.model_copy(update=fewer), recipe=recipe.frozen.recipe))
    yield spec


def _of_defense(spec: CellSpec, defense: DefenseSpec) -> Iterator[CellSpec]:
    needs = defense.needs
    others = {"f_b": needs.f_b, "h": needs.h} if needs else {}
    yield from _beside(spec, {name: other for name, other in others.items() if other}, "defense.needs")


def _of_attack(spec: CellSpec, attack: AttackSpec) -> Iterator[CellSpec]:
    yield from _beside(spec, attack.sources, "attack.sources")
    if attack.surrogate is not None:
        yield from _beside(spec, {"surrogate": attack.surrogate}, "attack")
    if attack.craft is not None:
        yield from _of_attack(spec, attack.craft)


def _beside(spec: CellSpec, others: Mapping[str, NetworkSpec] | None, place: str) -> Iterator[CellSpec]:
    for name, other in (others or {}).items():
        beside = spec.beside(other, f"{place}.{name}")
        yield from _network(beside)
        defense = getattr(other, "defense", None)
        if defense is not None:
            yield from _of_defense(beside, defense)
