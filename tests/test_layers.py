"""The street runs one way: which package imports which, and that nothing heavy loads early."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# a package imports itself, those of the lines above and what stands before it in its line
LAYERS = [
    ["bench.core"],
    ["bench.config"],
    ["bench.models", "bench.data", "bench.store", "attacks", "defenses"],
    ["bench.assemble", "bench.report"],
    ["bench.launch", "bench.run", "hydra_plugins", "bench.hydra_plugins"],
    ["bench.sweep", "bench.audit"],
    ["bench.api"],
    ["bench.site"],
    ["bench.verbs", "bench.__main__"],
]
ORDER = {name: (i, j) for i, names in enumerate(LAYERS) for j, name in enumerate(names)}


def place(module: str) -> tuple[int, int]:
    """Of the package that holds the module."""
    return next(at for name, at in ORDER.items() if f"{module}.".startswith(f"{name}."))


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").exists() or path.is_dir()


def imports(path: Path) -> list[str]:
    """Every module of ours that the file imports, inside functions and under TYPE_CHECKING, too."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if is_module(name) else node.module for name in inner]
    return [name for name in found if name.split(".")[0] in ("bench", "attacks", "defenses")]


def graph() -> dict[str, list[str]]:
    """module -> the modules that it imports."""
    paths = [path for package in ("bench", "attacks", "defenses") for path in sorted((ROOT / package).rglob("*.py"))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return {name: imports(path) for name, path in zip(names, paths, strict=True)}


def test_imports_run_one_way() -> None:
    found = [
        (module, other)
        for module, others in graph().items()
        for other in others
        if {module, other}.isdisjoint(["bench"])
    ]
    wrong = [f"{module} imports {other}" for module, other in found if place(other) > place(module)]
    assert len(found) > 100 and not wrong, wrong


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Kahn's order: what imports nothing that is left is taken off, until nothing is left."""
    left = {module: {other for other in others if other != module} for module, others in graph().items()}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert not left, f"in or behind a circle: {sorted(left)}"


@pytest.mark.parametrize(
    "module",
    [
        "bench.__main__",
        "bench.report",
        "bench.config.specs",
        "bench.config.runtime",
        "bench.config.instantiate",
        "bench.store",
        "bench.config.grid",
        "bench.report.figures.draw",
        "bench.site.write",
    ],
)
def test_loads_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_nothing_draws_from_a_global_generator() -> None:
    """`torch.manual_seed` stands in recipes and weight initialisation alone, under fork_rng."""
    allowed = {"defenses/training/loop.py", "bench/models/weights.py"}
    allowed.add("attacks/foreign/foreign.py")  # other libraries draw from torch's own, under fork_rng
    users = {
        str(path.relative_to(ROOT))
        for package in ("bench", "attacks", "defenses")
        for path in (ROOT / package).rglob("*.py")
        if any(
            word in path.read_text()
            for word in ("manual_seed", "np.random", "random.seed", "torch.randn(", "torch.rand(")
        )
    }
    users -= {"bench/models/split.py", "defenses/training/augment.py"}  # they have generators of their own
    assert users <= allowed
