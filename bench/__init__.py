"""A reference benchmark for defences against adversarial examples.

bench.evaluate(model, (x, y), attack="square", defense="rnd")   one cell: accuracy with its interval, a frame, a curve
bench.audit(model, (x, y), defense="rnd")                       what it claims, and what remains: a page
bench.table("unig_cifar")                                       an experiment's tables, from stored records
bench.records()                                                 every stored record with its config, as one frame
Each uses the engine, the ledger and the store of the command line. Nothing heavy is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench.core.version import VERSION as __version__

if TYPE_CHECKING:
    from bench.api.evaluate import Result as Result
    from bench.api.evaluate import evaluate as evaluate
    from bench.api.stored import records as records
    from bench.api.stored import table as table
    from bench.audit.of_objects import audit as audit

_PLACES = {"evaluate": "evaluate", "Result": "evaluate", "table": "stored", "records": "stored"}
__all__ = ["Result", "__version__", "audit", "evaluate", "records", "table"]


def __getattr__(name: str) -> Any:
    if name == "audit":  # a package that is a function, too
        return import_module("bench.audit")
    if name not in _PLACES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(import_module(f"bench.api.{_PLACES[name]}"), name)
