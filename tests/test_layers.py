"""The street runs one way: which package imports which, and that nothing heavy loads early."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# a module may import itself and those of earlier lines
LAYERS = [
    [
        "bench.core.errors",
        "bench.core.rng",
        "bench.core.rows",
        "bench.core.warp",
        "bench.config.resolvers",
        "bench.config.parse",
    ],
    ["bench.core.threat", "bench.config.kinds"],
    ["bench.config.identity"],
    [
        "bench.core.victim",
    ],
    [
        "attacks",
        "defenses.base",
        "defenses.none",
        "defenses.rnd",
        "defenses.unig",
        "defenses.aaa",
        "defenses.dent",
        "defenses.pni",
        "defenses.transformation",
        "defenses.reparameterised",
        "bench.models.split",
        "defenses.gcm",
        "defenses.deployed",
    ],
    [
        "bench.data",
        "bench.models",
        "bench.store.artifacts",
        "bench.store",
        "bench.run.progress",
        "bench.core.success",
        "bench.store.images",
        "bench.config.grid",
        "bench.store.provenance",
    ],
    [
        "bench.assemble.accuracy_check",
        "defenses.recipes",
        "defenses.training",
        "bench.run.slots",
    ],
    [
        "bench.run.cost",
    ],
    ["bench.assemble.build", "bench.report"],
    ["bench.assemble.training"],
    ["bench.run.context", "bench.assemble.crafted", "bench.assemble.image_network"],
    ["bench.run.query", "bench.run.white_box"],
    ["bench.run.cell"],
    ["bench.run.job", "bench.hydra_plugins", "bench.__main__", "hydra_plugins.bench_grid"],
]


def layer(module: str) -> int | None:
    places = [(len(name), i) for i, names in enumerate(LAYERS) for name in names if f"{module}.".startswith(f"{name}.")]
    return max(places)[1] if places else None


def is_module(name: str) -> bool:
    place = ROOT / name.replace(".", "/")
    return place.with_suffix(".py").exists() or place.is_dir()


def imports(path: Path) -> list[str]:
    """Modules imported when the file loads: not those below TYPE_CHECKING or inside functions."""
    found: list[str] = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if is_module(name) else node.module for name in inner]
    return [name for name in found if name.split(".")[0] in ("bench", "attacks", "defenses")]


@pytest.mark.parametrize("package", ["bench", "attacks", "defenses"])
def test_imports_run_one_way(package: str) -> None:
    checked = 0
    for path in sorted((ROOT / package).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if path.name == "__init__.py" and not path.read_text().strip():
            continue
        own = layer(module)
        assert own is not None, f"{module} has no layer: add it to LAYERS"
        for name in imports(path):
            other = layer(name)
            assert other is not None and other <= own, f"{module} imports {name}, which lies further down the street"
            checked += 1
    assert checked > 3


@pytest.mark.parametrize(
    "module",
    [
        "bench.__main__",
        "bench.report",
        "bench.config.identity",
        "bench.store",
        "bench.config.grid",
        "bench.report.figures.draw",
    ],
)
def test_loads_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_nothing_draws_from_a_global_generator() -> None:
    """`torch.manual_seed` stands in recipes and weight initialisation alone, under fork_rng."""
    allowed = {"defenses/training/loop.py", "bench/models/weights.py"}
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
