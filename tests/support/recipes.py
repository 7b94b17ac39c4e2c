"""A recipe's settings as the training loop takes them."""

from collections.abc import Mapping
from typing import Any, cast

from bench.config.instantiate import partial
from bench.config.network_specs import RecipeSpec
from defenses.training.model_sets import Loss


def parsed(recipe: Mapping[str, Any]) -> tuple[RecipeSpec, Loss]:
    """The recipe and its loss, a node of YAML or a function."""
    loss = recipe["loss"]
    if callable(loss):
        return RecipeSpec.parse({**recipe, "loss": {"_target_": "a.function"}}), cast(Loss, loss)
    spec = RecipeSpec.parse(recipe)
    return spec, partial(spec.loss)
