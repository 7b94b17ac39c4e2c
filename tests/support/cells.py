"""The type of the fixture `compose`."""

from collections.abc import Callable
from typing import Any

Compose = Callable[..., dict[str, Any]]
