"""The typed specification of a cell: what its records depend on, parsed once from a composed config. Imports no torch.

Fields keep the values as they were written (an int stays an int), since the cell's key is the hash of them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, InstanceOf, model_validator
from pydantic_core import PydanticCustomError

from bench.config import key
from bench.config.fields import Flag, Node, NotNegative, Number, Positive, Seed, Spec, Whole
from bench.config.network_specs import (
    TRAINED,
    DefenseSpec,
    ModelSpec,
    NetworkSpec,
    PoolSpec,
    RecipeSpec,
    SourceSpec,
)
from bench.config.parse import parse
from bench.core import threat
from bench.core.errors import BenchError
from bench.core.threat import Threat

NO_ATTACK = {"_target_": None}


class DatasetSpec(Spec):
    version: Whole
    revision: str
    classes: Annotated[int, Field(strict=True, ge=2)]
    shape: tuple[Positive, Positive, Positive]
    mean: tuple[Number, ...]
    std: tuple[Number, ...]
    root: str | None  # a place: what lies there is compared with what a cell's records were made of
    source: Node

    @model_validator(mode="after")
    def _channels(self) -> Self:
        allowed = (1, self.shape[0])
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in allowed:
                raise PydanticCustomError(
                    "channels",
                    "{name} needs a number for each of shape's {channels} channels",
                    {"name": name, "channels": self.shape[0]},
                )
        if min(self.std) <= 0:
            raise PydanticCustomError("channels", "std must be positive: pixels are divided by it")
        return self

    def plain(self) -> dict[str, Any]:
        return {name: value for name, value in super().plain().items() if name != "root"}


class SamplesSpec(Spec):
    """The first n (null: all) of the data set's test split in this order."""

    n: Positive | None
    order: Literal["first", "seeded", "per_class"]
    seed: Seed


class AttackNeeds(Spec):
    source: Literal["undefended"] | None = None  # the cell's bare network
    starts: PoolSpec | None = None  # images to start from, with their labels


class AttackSpec(Node):
    """A query attack; a white-box one has an oracle, a replayed one sources and the attack that crafts on them."""

    target: str | None = Field(alias="_target_")  # pyright: ignore[reportIncompatibleVariableOverride]
    version: Whole | None = None
    needs: AttackNeeds | None = None
    oracle: Node | None = None
    sources: dict[str, SourceSpec] | None = None
    craft: "AttackSpec | None" = None
    fuse: Literal["losses", "logits", "margins"] | None = None  # of several sources: what is averaged; null: losses
    labels: Literal["truth", "prediction"] | None = None
    surrogate: NetworkSpec | None = None  # the attacker's own, which attack.oracle.kind=learned goes back through

    def fields(self) -> dict[str, Any]:
        """Without what its oracle takes, not the attack."""
        return {name: value for name, value in super().fields().items() if name != "surrogate"}

    @model_validator(mode="before")
    @classmethod
    def _owned(cls, fields: Any) -> Any:
        """`owned: 3` of eight sources means the first three; the identity names those alone."""
        owned = fields.get("owned") if isinstance(fields, Mapping) else None
        if owned is None:
            return fields
        sources = list((fields.get("sources") or {}).items())
        if isinstance(owned, bool) or not isinstance(owned, int) or not 1 <= owned <= len(sources):
            raise PydanticCustomError(
                "owned",
                f"owned must be a whole number from 1 to {len(sources)}, the sources named",  # pyright: ignore[reportArgumentType]
            )
        return {name: value for name, value in fields.items() if name != "owned"} | {"sources": dict(sources[:owned])}

    @property
    def queries(self) -> bool:
        return self.target is not None and self.oracle is None and self.sources is None


class NumericsSpec(Spec):
    rows: Positive
    dtype: Literal["float32", "bfloat16", "float16"]
    tf32: Flag
    compile: Flag
    channels_last: Flag


def _samples(value: Any) -> Any:
    """`samples: 1000` is short for the first 1000 in seeded order."""
    short = value is None or isinstance(value, int)
    return {"n": value, "order": "seeded", "seed": 0} if short else value


class CellSpec(Spec):
    """One cell: what may change a record. A run-time knob can't enter by accident."""

    dataset: DatasetSpec
    samples: Annotated[SamplesSpec, BeforeValidator(_samples)]
    model: ModelSpec
    recipe: RecipeSpec | None  # None where the model's weights come of no recipe
    defense: DefenseSpec
    threat: InstanceOf[Threat]
    attack: AttackSpec
    numerics: NumericsSpec
    re_evaluations: Positive
    queries_per_image: Positive
    acceptance_z: NotNegative | None
    seed: Seed

    @classmethod
    def parse(cls, config: Mapping[str, Any]) -> Self:
        """From a composed, resolved conf/bench.yaml. Raises BenchError for the first setting that makes no sense."""
        chosen = {name: config[name] for name in cls.model_fields if name in config}
        model = chosen.get("model")
        if not isinstance(model, Mapping) or model.get("weights") not in TRAINED:
            chosen["recipe"] = None
        elif chosen.get("recipe") is None:
            raise BenchError(f"recipe=null, but model.weights={model['weights']} come of one; set recipe=standard, say")
        chosen["threat"] = threat.read(chosen.get("threat"))
        return parse(cls, chosen, "")

    def identity(self) -> dict[str, Any]:
        """What the cell's key is the hash of."""
        if self.attack.target is None:
            return self.clean_identity()
        whole = self._shared() | {
            "threat": threat.canonical(self.threat),
            "attack": self.attack.plain(),
            "re_evaluations": self.re_evaluations,
        }
        if not self.attack.queries:  # budgets and feedback are for those who ask
            whole["threat"] |= {"queries": None, "feedback": "gradient"}
        averaging = {"queries_per_image": self.queries_per_image, "acceptance_z": self.acceptance_z}
        if averaging != {"queries_per_image": 1, "acceptance_z": None}:  # the plain attacker's key does not name it
            whole |= averaging | {"averaging": 2}  # 1: the attack's schedule was that of the whole budget
        return whole

    def clean_identity(self) -> dict[str, Any]:
        """Of the clean pass that the attacks on one victim share."""
        return self._shared() | {"attack": NO_ATTACK, "threat": None, "re_evaluations": None}

    def _shared(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset.plain(),
            "samples": {"order": self.samples.order, "seed": self.samples.seed},
            "model": self.model.plain(),
            "recipe": self.recipe.plain() if self.recipe else None,
            "defense": self.defense.plain(),
            "numerics": self.numerics.plain(),
            "seed": self.seed,
        }

    def weights_identity(self) -> dict[str, Any]:
        """What the weights of a recipe depend on: for a set, not on the member that is deployed."""
        model = {name: value for name, value in self.model.plain().items() if name != "member"}
        recipe = self.recipe.plain() if self.recipe else None
        return {"dataset": self.dataset.plain(), "model": model, "recipe": recipe, "seed": self.seed}

    @property
    def key(self) -> str:
        return key.of(self.identity())

    @property
    def clean_key(self) -> str:
        return key.of(self.clean_identity())

    def replace(self, **parts: Any) -> Self:
        """The same cell with other parts."""
        return self.model_copy(update=parts)

    def beside(self, other: NetworkSpec, place: str) -> Self:
        """The same cell with another network in the model's place. place: where the config names it."""
        recipe = other.recipe or self.recipe if other.model.trained else None
        if other.model.trained and recipe is None:
            raise BenchError(f"{place} is trained, but names no recipe: set recipe@{place}.recipe=standard, say")
        seed = self.seed if other.seed is None else other.seed
        return self.replace(model=other.model, recipe=recipe, seed=seed)
