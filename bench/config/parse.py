"""Settings -> a frozen pydantic model, once, at the door; pydantic's report becomes our one line. Imports no torch."""

from collections.abc import Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.core.errors import BenchError, nearest


class Frozen(BaseModel):
    """Immutable, and it refuses fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)
RULES = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_too_short": "must not be empty",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a group of settings",
    "mapping_type": "must be a group of settings",
    "model_type": "must be a group of settings",
    "model_attributes_type": "must be a group of settings",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
}


def parse(model: type[Model], content: Any, label: str) -> Model:
    """Raises BenchError with the first thing that is wrong, as `label.field …` and the nearest right name."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise BenchError(_sentence(model, error, label, content)) from None


def _sentence(model: type[BaseModel], error: ValidationError, label: str, content: Any) -> str:
    # an unknown field first: `metrik` explains why `metric` is missing
    first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    place, value = [str(part) for part in first["loc"]], first["input"]
    where = _dotted(label, first["loc"], content)
    if first["type"] == "extra_forbidden":
        return f"{where} is unknown{nearest(place[-1], _fields(model, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"{_dotted(label, first['loc'][:-1], content) or 'the config'} lacks `{place[-1]}`; add it to its YAML"
    if first["type"] == "literal_error":
        return f"{where}={shown(value)} is unknown{nearest(str(value), _literals(first.get('ctx', {})['expected']))}"
    if first["type"] in RULES:
        return f"{where}={shown(value)} {RULES[first['type']].format(**first.get('ctx', {}))}"
    said = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if first["type"] == "value_error":  # a validator of ours says it all
        return f"{where}: {said}"
    return f"{where}={shown(value)} {said[:1].lower()}{said[1:]}"


def shown(value: Any) -> str:
    """A value as people type it, cut short."""
    text = str(value).lower() if isinstance(value, bool) else "null" if value is None else " ".join(str(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


def _dotted(label: str, loc: Sequence[int | str], content: Any) -> str:
    return ".".join([label] * bool(label) + _named(loc, content))


def _literals(expected: str) -> list[str]:
    """pydantic's "'a', 'b' or 'c'"."""
    return [name.strip(" '") for name in expected.replace(" or ", ", ").split(",")]


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
