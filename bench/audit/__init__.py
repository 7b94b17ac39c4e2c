"""The audit: what a defence claims, and what remains when it faces the attacks that its own traits select.

`python -m bench audit defense=...` on the command line; in Python this package is the function bench.audit(model, (x, y), ...) of
bench/audit/of_objects.py.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *given: Any, **named: Any) -> Any:
        from bench.audit.of_objects import audit

        return audit(*given, **named)


sys.modules[__name__].__class__ = _Callable
