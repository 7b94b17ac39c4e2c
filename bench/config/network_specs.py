"""The typed specification of a network: its model, the recipe that its weights come of, the defence that it stands behind.
Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from bench.config import content
from bench.config.fields import Flag, Node, Number, Positive, Seed, Spec, Whole
from bench.config.parse import parse

TRAINED = ("recipe", "set", "image")  # model.weights that come of a recipe


class OwnSpec(Spec):
    """How a network that is no part of the harness is wrapped: see bench/models/own.py."""

    root: str | None = None
    file: str | None = None
    sha256: str | None = None
    output: str | Whole | None = None
    mean: list[Number] | None = None
    std: list[Number] | None = None

    def plain(self) -> dict[str, Any]:
        return _read(super().plain())


class ModelSpec(Spec):
    """weights: `own` (the build brings them), or those of a recipe: of one network, a set, a network from image to image."""

    version: Whole
    weights: Literal["own", "recipe", "set", "image"]
    members: Whole | None = None
    member: Whole | str | None = None
    build: Node | list[Node]
    own: OwnSpec | None = None
    name: str | None = None  # short for build.name

    @property
    def trained(self) -> bool:
        return self.weights in TRAINED

    def plain(self) -> dict[str, Any]:
        """`build.root` and `build.file` are places; the key has the sha256 of the file, as the YAML or the file itself says."""
        builds = self.build if isinstance(self.build, list) else [self.build]
        read = [_read(node.plain()) for node in builds]
        return super().plain() | {"build": read if isinstance(self.build, list) else read[0]}


def _read(build: Mapping[str, Any]) -> dict[str, Any]:
    root, file = build.get("root"), build.get("file")
    written = {name: value for name, value in build.items() if name not in ("root", "file")}
    if file is None or build.get("sha256") is not None:
        return written
    found = content.of_file(Path(root or "").expanduser() / Path(str(file)).expanduser())
    return written | ({"file": str(file)} if found is None else {"sha256": found})


class FrozenMembers(Spec):
    members: Whole
    recipe: "RecipeSpec"


class RecipeSpec(Spec):
    """The fields of conf/recipe/*.yaml."""

    version: Whole
    epochs: Annotated[int, Field(strict=True, ge=0)]
    batch: Positive
    lr: Number  # at the peak
    peak: Number  # where the peak lies, as a share of all steps: lr rises linearly from 0 and falls linearly to 0
    momentum: Number
    weight_decay: Number
    pad: Whole  # random crop: up to so many pixels to each side
    pad_mode: Literal["reflect", "zero"]
    flip: Flag
    bf16: Flag
    compile: Flag
    loss: Node
    drops: list[Whole] | None = (
        None  # instead of one cycle: lr from the first step, a tenth of it from each of these epochs
    )
    images: Positive | None = None  # train on the first so many; a YAML without the field means all, and keeps its key
    data: Node | None = None  # what makes other training images of the data set's, once
    needs: "dict[str, SourceSpec] | None" = None  # other networks that the loss or the data take, by name
    start: str | None = None  # the name of one of those, whose weights the training starts from
    nesterov: Flag | None = None  # momentum; a YAML without the field has Nesterov's, and keeps its key
    decay_all: Flag | None = None  # decay biases and batch norm, too; without the field they are spared
    frozen: FrozenMembers | None = None  # the set's first members come from a smaller trained set

    @classmethod
    def parse(cls, recipe: Mapping[str, Any], place: str = "recipe") -> Self:
        return parse(cls, recipe, place)


class NetworkSpec(Spec):
    """Another network beside the cell's; what it leaves out is the cell's own."""

    model: ModelSpec
    recipe: RecipeSpec | None = None
    seed: Seed | None = None


class PoolSpec(Spec):
    """The first n images of a split in seeded order."""

    split: Literal["train", "test"]
    n: Positive


class DefenseNeeds(Spec):
    companions: PoolSpec | None = None  # training images with their true labels
    f_b: NetworkSpec | None = None  # a second network
    h: NetworkSpec | None = None  # a network from image to image


class DefenseSpec(Node):
    version: Whole | None = None
    needs: DefenseNeeds | None = None


class SourceSpec(NetworkSpec):
    """A network behind its own defence, if it names one: to craft images on, or for a recipe that learns from its answers."""

    defense: DefenseSpec | None = None
