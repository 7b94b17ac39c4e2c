"""The key of a specification: the hash of what was written. Imports no torch."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Where files lie on one machine says nothing about what they hold; their sha256 is checked by the store instead.
PLACES = {"root", "file"}
PLUMBING = {"_partial_", "_convert_", "_recursive_"}  # how Hydra makes an object, not which
LEFT_OUT = PLACES | PLUMBING


def of(content: Mapping[str, Any]) -> str:
    """16 hex digits of the sha256 of canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(node: Any) -> Any:
    """Without what says only where files lie on one machine, and without Hydra's plumbing."""
    if isinstance(node, Mapping):
        return {str(name): plain(value) for name, value in node.items() if name not in LEFT_OUT}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return node
