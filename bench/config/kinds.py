"""Words where numbers belong, said by name before anybody counts with them: Python itself says so late, and without the name."""

from collections.abc import Mapping
from typing import Any

from bench.core.errors import BenchError

WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def check(place: str, annotations: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raises BenchError where a value is not of the plain kind (int, float, bool, or null where it may be) that its annotation
    names. place: whose fields they are, such as `recipe`. Fractions (`8/255`) are words; eps alone may be one (threat.py)."""
    for name, value in values.items():
        kind = annotations.get(name)
        text = kind.__name__ if isinstance(kind, type) else str(kind)
        plain = text.removesuffix(" | None")
        if plain in WORDS and not (value is None and plain != text) and not _fits(value, plain):
            raise BenchError(f"{place}.{name}={value} must be {WORDS[plain]}")


def _fits(value: Any, kind: str) -> bool:
    if isinstance(value, bool) or kind == "bool":
        return isinstance(value, bool) and kind == "bool"
    return isinstance(value, int) or (kind == "float" and isinstance(value, float))
