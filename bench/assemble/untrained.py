"""The network, or the set of networks, that a cell's model is built as, before any weights are loaded or trained; and whether
the defence takes it."""

from typing import Any

import torch
from torch import nn

from bench.assemble import accuracy_check
from bench.config.fields import Node
from bench.config.instantiate import make
from bench.config.network_specs import ModelSpec, OwnSpec
from bench.config.specs import CellSpec
from bench.core.device import DTYPES
from bench.core.errors import BenchError, one_line
from bench.core.victim import FixedRows, Ledger
from bench.models.own import wrapped
from bench.models.sets import ModelSet
from bench.models.split import Split


def untrained(spec: CellSpec) -> Split | ModelSet:
    """The network, or the set of networks, before its recipe's weights."""
    model = spec.model
    if model.weights == "image":
        raise BenchError("this model answers images, no classes: it is for defense.needs.h alone; choose another model")
    if model.weights != "set":
        made = _built(one_build(model)) if model.own is None else None
        return made if isinstance(made, Split) else _wrapped(spec)
    if model.members is None:
        raise BenchError("model.weights=set lacks `members`, the number of its networks; add it to its YAML")
    builds = model.build if isinstance(model.build, list) else [model.build] * model.members
    if len(builds) != model.members:
        raise BenchError(f"model.members={model.members}, but model.build lists {len(builds)} networks; correct either")
    return ModelSet([_built(build) for build in builds])


def _wrapped(spec: CellSpec) -> Split:
    """A network that is not made for this harness. Raises BenchError where its weights are another draw at each build."""
    build, own = one_build(spec.model), spec.model.own or OwnSpec()
    fields = {name: getattr(own, name) for name in ("file", "root", "sha256", "output", "mean", "std")}
    made = wrapped(_built(build), spec.dataset.shape, **fields)
    if spec.model.weights == "own" and own.file is None:
        again = wrapped(_built(build), spec.dataset.shape, **fields)
        if accuracy_check.digest(made) != accuracy_check.digest(again):
            raise BenchError(
                f"{build.target} draws other weights at each build; set model.own.file=<its state dict>, or train it here by "
                "model.weights=recipe recipe=standard"
            )
    return made


def _built(build: Node) -> Any:
    """Raises BenchError where the builder's own code meets settings that make no network."""
    try:
        made = make(build)
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise BenchError(f"{build.target} makes no network of these settings: {one_line(error)}") from error
    if isinstance(made, nn.Module) and any(not parameter.numel() for parameter in made.parameters()):
        raise BenchError(f"{build.target}: these settings leave a layer without any weight; correct model.build")
    return made


def one_build(model: ModelSpec) -> Node:
    if isinstance(model.build, list):
        raise BenchError(f"model.build lists {len(model.build)} networks, but model.weights={model.weights} has one")
    return model.build


def check_defense(spec: CellSpec) -> None:
    """Raises BenchError where the defence refuses its settings: tried on a network that is not trained yet, before it is. Of one
    that needs other networks or images nothing can be said so early."""
    needs, made = spec.defense.needs, untrained(spec)
    if needs and (needs.companions or needs.f_b or needs.h):
        return
    network = made.deploy(spec.model.member) if isinstance(made, ModelSet) else made
    ledger = Ledger(1, torch.device("cpu"))
    make(spec.defense, model=FixedRows(network, spec.numerics.rows, DTYPES[spec.numerics.dtype], ledger))
