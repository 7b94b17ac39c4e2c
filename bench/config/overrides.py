"""Words such as `threat.eps=8/255` in Hydra's override grammar: typed on the command line, or made of a grid's lines."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType, Sweep, ValueType
from hydra.errors import HydraException

from bench.config import places
from bench.core.errors import BenchError

PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
CONSTANTS = {
    "null",
    "true",
    "false",
    "on",
    "off",
    "yes",
    "no",
    "nan",
    "inf",
}  # Hydra or YAML read these as something else

_PLACES = re.compile(r"\s(?:store|artifacts|dataset\.root|model\.(?:build|own)\.root)=(?:'[^']*'|\"[^\"]*\"|\S+)")


def without_places(command: str) -> str:
    """A command for others: without the words that only say where files lie on this machine."""
    return _PLACES.sub("", command)


@dataclass(frozen=True)
class Word:
    """One setting: what a cell is composed from."""

    text: str  # as Hydra reads it
    axis: str = field(compare=False)  # `attack`, `attack.eps`, or a group at another place: `attack@attack.craft`
    value: Any = field(compare=False)
    type: OverrideType = field(compare=False, default=OverrideType.CHANGE)  # `+` adds, `~` takes away

    @property
    def group(self) -> str:
        return self.axis.partition("@")[0]

    @functools.cached_property
    def node(self) -> str:
        """The top of the config that it changes."""
        return node_of(self.axis)

    @functools.cached_property
    def chooses(self) -> bool:
        """Does it choose a YAML of a group?"""
        return self._changes and places.is_group(self.group)

    @functools.cached_property
    def sets(self) -> bool:
        """Does it set a value that is there already?"""
        return self._changes and not places.is_group(self.group) and not re.search("[/@]", self.axis)

    @property
    def _changes(self) -> bool:
        return self.type == OverrideType.CHANGE and self.node != "hydra"

    def same_value(self, other: "Word") -> bool:
        return repr(self.value) == repr(other.value)


def node_of(axis: str) -> str:
    """`model@attack.sources.a.model` changes `attack`."""
    name, _, package = axis.partition("@")
    return re.split("[./]", package or name)[0]


def of_yaml(axis: str, value: Any) -> list[Word]:
    """An axis of a grid's line, which has one value or a list of them."""
    return [Word(f"{axis}={quoted(each)}", axis, each) for each in (value if isinstance(value, list) else [value])]


def typed_words(typed: Sequence[str]) -> list[list[Word]]:
    """For each typed override its words: one, or as many as it sweeps over."""
    return [_words(override) for text in typed for override in _parse(text)]


def quoted(value: Any) -> str:
    """A YAML value as Hydra's override grammar reads it back."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(quoted, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{quoted(v)}" for name, v in value.items()) + "}"
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in CONSTANTS:
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@functools.cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> list[Override]:
    try:
        return _parser().parse_overrides([text])
    except HydraException as error:
        said = " ".join(str(error).split())[:300]
        raise BenchError(f"can't read '{text}' ({said}); write key=value, quoted where it has signs") from None


def _words(override: Override) -> list[Word]:
    text, group = override.input_line or "", str(override.key_or_group)
    axis = f"{group}@{override.package}" if override.package else group
    assert override.type is not None
    if not override.is_sweep_override():
        return [Word(text, axis, override.value(), override.type)]
    head = text.partition("=")[0]
    if override.value_type == ValueType.INTERVAL_SWEEP:
        raise BenchError(f"'{text}' is no list of cells; write {head}=range(first,end,step), or the values with commas")
    if isinstance(found := override.value(), Glob):
        if not places.is_group(group):
            raise BenchError(
                f"'{text}': glob picks YAMLs of a group, and {group} is none; write the values with commas"
            )
        names = found.filter(places.choices(group))
        if not names:
            raise BenchError(f"'{text}' picks no YAML of conf/{group}")
        return [Word(f"{head}={name}", axis, name, override.type) for name in names]
    assert isinstance(found, Sweep | list)
    texts = list(override.sweep_string_iterator())  # once: it may shuffle
    return [Word(f"{head}={each}", axis, _parse(f"x={each}")[0].value(), override.type) for each in texts]
