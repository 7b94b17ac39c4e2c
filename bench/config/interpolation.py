"""Interpolations (`${model.build}`) in plain containers, resolved as OmegaConf does it.

Most only refer to another place and are looked up here, twenty times as fast; whatever else they say is OmegaConf's.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.config import sentences
from bench.core.errors import BenchError

MARK = "${"
RELATIVE = "${."
REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")


def texts(node: Any) -> Iterator[str]:
    """All strings with an interpolation."""
    if isinstance(node, Mapping | list):
        for each in node.values() if isinstance(node, Mapping) else node:
            yield from texts(each)
    elif isinstance(node, str) and MARK in node:
        yield node


def words(text: str) -> list[str]:
    """All that may be the name of a node that the text refers to."""
    return list(dict.fromkeys(re.findall(r"[A-Za-z_]\w*", text)))


def resolve(node: Any, nodes: Mapping[str, Any], otherwise: Callable[[str], Any]) -> Any:
    """nodes: unresolved, all that `node` may refer to. otherwise: resolves a text that does more than refer."""
    if isinstance(node, Mapping):
        return {name: resolve(value, nodes, otherwise) for name, value in node.items()}
    if isinstance(node, list):
        return [resolve(value, nodes, otherwise) for value in node]
    if not isinstance(node, str) or MARK not in node:
        return node
    found = REFERENCE.fullmatch(node)
    place = _at(nodes, found[1]) if found else None
    return otherwise(node) if place is None else resolve(place, nodes, otherwise)


def by_omegaconf(node: Any, nodes: Mapping[str, Any]) -> Any:
    """Raises BenchError."""
    try:
        resolved = OmegaConf.to_container(OmegaConf.create({"node": {"itself": node}, **nodes}).node, resolve=True)
    except OmegaConfBaseException as error:
        raise BenchError(sentences.of_hydra(error)) from None
    assert isinstance(resolved, dict)
    return resolved["itself"]


def all_by_omegaconf(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Raises BenchError."""
    try:
        resolved = OmegaConf.to_container(OmegaConf.create(dict(nodes)), resolve=True)
    except OmegaConfBaseException as error:
        raise BenchError(sentences.of_hydra(error)) from None
    assert isinstance(resolved, dict)
    return {str(name): value for name, value in resolved.items()}


def _at(nodes: Mapping[str, Any], place: str) -> Any:
    """None where there is nothing, or where the way leads through another interpolation."""
    node: Any = nodes
    for name in place.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node
