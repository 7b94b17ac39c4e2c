"""What lies outside the configs and yet decides over a record, by sha256: weights files, a user's own code. Imports no torch."""

import functools
import hashlib
import importlib.util
import sysconfig
from pathlib import Path

OURS = ("bench", "attacks", "defenses")  # their answers are versioned in the YAMLs


def of_file(file: Path) -> str | None:
    """sha256 of its bytes; None where there is no such file. Read again only when its time or size changes."""
    try:
        state = file.stat()
        return _digest(file, state.st_mtime_ns, state.st_size) if file.is_file() else None
    except OSError:
        return None


def of_source(target: str) -> str | None:
    """sha256 of the module that `target` names; None for this project's own, for what pip installed, and for what isn't there."""
    if target.split(".")[0] in OURS:
        return None
    file = _module_file(target)
    return None if file is None else of_file(file)


@functools.cache
def _digest(file: Path, modified: int, size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.cache
def _module_file(target: str) -> Path | None:
    """The file of the longest part of a dotted name that is a module, where it lies outside the installation."""
    installed = [Path(sysconfig.get_paths()[name]).resolve() for name in ("purelib", "platlib", "stdlib")]
    parts = target.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.util.find_spec(".".join(parts[:end]))
        except (ImportError, ValueError, AttributeError):
            continue
        if found is not None:
            file = Path(found.origin).resolve() if found.origin and found.has_location else None
            return None if file is None or any(file.is_relative_to(place) for place in installed) else file
    return None
