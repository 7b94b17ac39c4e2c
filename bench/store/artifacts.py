"""Things built once and found by the hash of what made them: trained weights, crafted examples. Imports no torch."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from bench.config import key
from bench.core.errors import BenchError


def need(root: Path, kind: str, config: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """The folder root/kind/<hash of config>, built by `build(folder)` if it isn't there.

    The build works in a temporary folder under a lock and is renamed when whole. A killed build leaves that folder, so that
    the next call resumes it (a recipe goes on from its last epoch).
    """
    name = key.of(config)
    folder, unfinished = root / kind / name, root / kind / f".tmp-{name}"
    if folder.is_dir():
        return folder
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        with FileLock(root / kind / f"{name}.lock"):
            if not folder.is_dir():  # another process may have built it while this one waited
                build(unfinished)
                (unfinished / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False))
                os.replace(unfinished, folder)
    except OSError as error:
        raise BenchError(
            f"can't build {folder} ({error.strerror or error}); set artifacts=<a folder you may write to>"
        ) from None
    return folder


def there(root: Path, kind: str, name: str) -> bool:
    """Is the artifact of that hash built?"""
    return (root / kind / name).is_dir()
