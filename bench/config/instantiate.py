"""A node of YAML -> the object that it describes, by Hydra. Every field is an argument of what `_target_` names; the objects that
only a cell has (threat, model, victim, …) come beside them. Imports no torch."""

import functools
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from pydantic import ConfigDict, TypeAdapter, ValidationError

from bench.config.fields import Node
from bench.config.key import PLUMBING
from bench.config.parse import RULES, shown
from bench.core.errors import BenchError, nearest, one_line

PLAIN = {int: "int_type", float: "float_type", bool: "bool_type"}


def make(node: Node, **objects: Any) -> Any:
    """The object. Raises BenchError where its target can't be imported or refuses the fields."""
    called = partial(node, **objects)
    try:
        return called()
    except TypeError as error:
        raise BenchError(f"{node.target} does not fit its YAML: {one_line(error)}") from error


def partial(node: Node, **objects: Any) -> Callable[..., Any]:
    """The target with its fields and these objects bound: a loss, say, that a training loop calls."""
    check(node, *objects)
    try:
        return functools.partial(instantiate(node.fields() | {"_partial_": True, "_convert_": "all"}), **objects)
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise (cause if isinstance(cause, BenchError) else BenchError(f"{node.target}: {one_line(error)}")) from None


def check(node: Node, *objects: str) -> None:
    """Raises BenchError where the target can't be imported, does not know a field or an object, or gets a value of another plain
    kind (whole number, number, true or false) than its annotation says."""
    target = _located(node.target)
    parameters = inspect.signature(target).parameters
    fields = {name: value for name, value in node.fields().items() if name not in PLUMBING and name != "_target_"}
    if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        for name in (*fields, *objects):
            if name not in parameters:
                known = [each for each in parameters if each not in objects]
                raise BenchError(f"{node.target} takes no {name!r}{nearest(name, known)}")
    hints = _hints(target)
    for name, value in fields.items():
        rule = _broken(hints.get(name), value)
        if rule:
            raise BenchError(f"{node.target}.{name}={shown(value)} {rule}")


def _located(target: str | None) -> Any:
    if target == "???":
        raise BenchError("_target_ names nothing yet; set model.build._target_=mymodule.MyNet, say")
    try:
        return get_object(str(target))
    except Exception as error:
        module, _, name = str(target).rpartition(".")
        if (found := sys.modules.get(module)) is not None and not hasattr(found, name):
            known = [each for each, kind in vars(found).items() if callable(kind) and not each.startswith("_")]
            raise BenchError(f"_target_={target}: module {module} has no {name}{nearest(name, known)}") from None
        cause = error.__cause__ or error
        raise BenchError(
            f"_target_={target} can't be imported ({' '.join(str(cause).split())[:200]}); correct it in its YAML"
        ) from None


def _hints(target: Any) -> dict[str, Any]:
    signed = target.__init__ if isinstance(target, type) else target
    try:
        return get_type_hints(signed)
    except (NameError, TypeError):  # someone else's annotations, imported for type checkers alone
        return {}


def _broken(annotation: Any, value: Any) -> str | None:
    """The rule that the value breaks. Only plain kinds are judged here; what else a method takes it judges itself."""
    kinds = set(get_args(annotation)) if get_origin(annotation) in (Union, types.UnionType) else {annotation}
    plain = [kind for kind in kinds if kind in PLAIN]
    if len(plain) != 1 or not kinds <= {*PLAIN, type(None)}:
        return None
    try:
        _adapter(annotation).validate_python(value)
    except ValidationError:
        return RULES[PLAIN[plain[0]]]
    return None


@functools.cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(strict=True))
