"""cell.yaml: what a cell's parts say of it, written out for people. Nothing of the harness believes it. Imports no torch."""

import hashlib
from collections.abc import Mapping
from typing import Any

import yaml

from bench.core.errors import BenchError
from bench.core.place import Place, Remote
from bench.store.files import set_aside, write_whole

NAME = "cell.yaml"
WORDS = "a copy for people of what the records say"


def is_good(folder: Place, key: str) -> bool:
    """Is it the cell's, as it was written?"""
    return _trouble(folder / NAME, key) is None


def write(folder: Place, key: str, about: Mapping[str, Any]) -> str:
    """Writes it, over what may be there; returns what was wrong with that. Raises BenchError where it can't be written."""
    path = folder / NAME
    why = _trouble(path, key) or "good"
    text = yaml.safe_dump(dict(about), sort_keys=False)
    try:
        if isinstance(path, Remote):  # it is written over, whatever it was
            pass
        elif path.is_dir():
            set_aside(path, "damaged")
        elif path.is_symlink():
            path.unlink()
    except OSError as error:
        raise BenchError(f"can't replace {path} ({error.strerror})") from None
    write_whole(path, (_head(key, text) + text).encode())
    return why


def _head(key: str, text: str) -> str:
    return f"# {WORDS}; cell {key}, sha256 {hashlib.sha256(text.encode()).hexdigest()}\n"


def _trouble(path: Place, key: str) -> str | None:
    try:
        head, _, text = path.read_bytes().decode().partition("\n")
    except FileNotFoundError:
        return "missing"
    except UnicodeDecodeError:
        return "not text"
    except OSError as error:
        return f"not readable ({error.strerror})"
    if not head + text:
        return "empty"
    if f"cell {key}," not in head and f"\nkey: {key}\n" not in f"\n{text}":
        return "another cell's"
    return None if head + "\n" == _head(key, text) else "changed"
