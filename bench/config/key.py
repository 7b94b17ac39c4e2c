"""The key of a specification: the hash of what was written. Imports no torch."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from bench.config import content

PLUMBING = {"_partial_", "_convert_", "_recursive_"}  # how Hydra makes an object, not which


def of(content: Mapping[str, Any]) -> str:
    """16 hex digits of the sha256 of canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(node: Any) -> Any:
    """As it was written, without Hydra's plumbing; an object of the user's own code with the sha256 of its source."""
    if isinstance(node, Mapping):
        written = {str(name): plain(value) for name, value in node.items() if name not in PLUMBING}
        target = node.get("_target_")
        own = content.of_source(target) if isinstance(target, str) else None
        return written if own is None else written | {"_source_": own}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return node
