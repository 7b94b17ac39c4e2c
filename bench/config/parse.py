"""Settings -> a frozen pydantic model, once, at the door; pydantic's report becomes our one line. Imports no torch."""

from collections.abc import Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.core.errors import BenchError, nearest


class Frozen(BaseModel):
    """Immutable, and it refuses fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=Frozen)


def parse(model: type[Model], content: Any, label: str) -> Model:
    """Raises BenchError with the first thing that is wrong, as `label.field …` and the nearest right name."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise BenchError(_sentence(model, error, label, content)) from None


def _sentence(model: type[BaseModel], error: ValidationError, label: str, content: Any) -> str:
    # an unknown field first: `metrik` explains why `metric` is missing
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    place, value = [str(part) for part in first["loc"]], first["input"]
    where = ".".join([label, *_named(first["loc"], content)])
    if first["type"] == "extra_forbidden":
        return f"{where} is unknown{nearest(place[-1], _fields(model, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"{'.'.join([label, *_named(first['loc'][:-1], content)])} lacks `{place[-1]}`"
    said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] == "value_error":  # a validator of ours says it all
        return f"{where}: {said}"
    return f"{where}={value!r:.80} {said[:1].lower()}{said[1:]}"


def _named(loc: Sequence[int | str], content: Any) -> list[str]:
    """The place in the content, list items by their `name` where they have one."""
    words: list[str] = []
    node: Any = content
    for part in loc:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            if node is not content and part != loc[-1]:
                continue  # the tag of a union's member
            node = None
        name = node.get("name") if isinstance(part, int) and isinstance(node, dict) else None
        words.append(f"'{name}'" if name is not None else str(part))
    return words


def _fields(model: Any, loc: Sequence[int | str]) -> list[str]:
    """The fields of the model at that place: through lists, unions and optional ones."""
    models = [model]
    for part in loc:
        if isinstance(part, int):
            continue
        inner = [each.model_fields[part].annotation for each in models if part in each.model_fields]
        models = [found for each in inner for found in _models(each)] or models
    return sorted({name for each in models for name in each.model_fields})


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for each in get_args(annotation) for found in _models(each)]
