"""What `defence-bench <verb>` can do: one file, one verb. Its `main(words)` gets what stands behind the verb, and the first
sentence of its docstring is its line in `--help`. BenchError is one line and exit code 1. Imports no torch."""

import ast
import importlib
import pkgutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path


def names() -> list[str]:
    return sorted(each.name for each in pkgutil.iter_modules(__path__))


def verb(name: str) -> Callable[[list[str]], None]:
    return importlib.import_module(f"{__name__}.{name}").main


def line(name: str) -> str:
    """What it does, read without importing it."""
    found = find_spec(f"{__name__}.{name}")
    assert found is not None and found.origin is not None
    text = ast.get_docstring(ast.parse(Path(found.origin).read_text())) or ""
    return " ".join(text.partition(". ")[0].partition("\n\n")[0].split())
