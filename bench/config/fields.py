"""What specifications are made of: numbers as they were written, objects in YAML, and what of them is identity. No torch."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from bench.config import key
from bench.config.parse import Frozen


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("number", "must be a number")
    return value


def _not_negative(value: Any) -> Any:
    if _number(value) < 0:
        raise PydanticCustomError("number", "must be a number of at least 0")
    return value


Number = Annotated[float, PlainValidator(_number)]
NotNegative = Annotated[float, PlainValidator(_not_negative)]
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Positive = Annotated[int, Field(strict=True, ge=1)]


class Spec(Frozen):
    model_config = ConfigDict(protected_namespaces=())

    def plain(self) -> dict[str, Any]:
        """Its part of the identity: as it was written, without what says only where files lie or how Hydra makes it."""
        whole: dict[str, Any] = {}
        for name in self.model_fields_set:
            field = type(self).model_fields.get(name)
            alias = name if field is None or field.alias is None else field.alias
            whole[alias] = _plain(getattr(self, name))
        return key.plain(whole)


def _plain(value: Any) -> Any:
    """Each specification knows which of its fields are places."""
    if isinstance(value, Spec):
        return value.plain()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


class Node(Spec):
    """An object in YAML: `_target_`, and every other field an argument of that."""

    model_config = ConfigDict(extra="allow")

    target: str = Field(alias="_target_")

    def fields(self) -> dict[str, Any]:
        return self.model_dump(by_alias=True, exclude_unset=True)
