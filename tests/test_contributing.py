"""What docs/extend.md tells a contributor to paste passes, in a copy of the tree, what the repository asks of its own files."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTEND = (ROOT / "docs" / "extend.md").read_text()
COPIED = ("pyproject.toml", "README.md", "CONTRIBUTING.md", "conf", "bench", "defenses", "attacks", "scripts", "tests")


def blocks(title: str) -> dict[str, str]:
    section = EXTEND.split(f"## Add {title}")[1].split("\n## ")[0]
    return dict(re.findall(r"```(python|yaml)\n(.*?)```", section, re.DOTALL))


def paste(copy: Path) -> None:
    """The two methods and the paper, where their sections say; the paper's printed numbers as its table asks for them."""
    for title, module, config in (
        ("an attack", "attacks/query/gauss.py", "conf/attack/gauss.yaml"),
        ("a defence", "defenses/quantise.py", "conf/defense/quantise.yaml"),
    ):
        found = blocks(title)
        (copy / module).write_text(found["python"])
        (copy / config).write_text(found["yaml"])
    (copy / "conf/experiment/mine.yaml").write_text(blocks("a paper")["yaml"])
    printed = ["defense,metric,attack,query_budget,value", "Vanilla,clean_acc,,,95.1", "Ours,clean_acc,,,94.0"]
    printed += ["Vanilla,,Square,2500,1.0", "Ours,,Square,2500,60.0"]
    (copy / "results/papers").mkdir(parents=True)
    (copy / "results/papers/mine.csv").write_text("\n".join(printed) + "\n")


def run(copy: Path, *command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(copy), "BENCH_STORE": str(copy / "store")}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.dear
def test_pasted_methods_pass_lint_types_layers_golden_traits_and_run(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, copy / name, ignore=ignore) if source.is_dir() else shutil.copy(source, copy / name)
    plugins = copy / "hydra_plugins"  # an installation maps it there
    plugins.mkdir()
    (plugins / "bench_grid").symlink_to(copy / "bench/hydra_plugins/bench_grid")
    paste(copy)
    python = sys.executable
    run(copy, python, "-m", "ruff", "check", "attacks/query/gauss.py", "defenses/quantise.py")
    run(copy, python, "-m", "ruff", "format", "--check", "attacks/query/gauss.py", "defenses/quantise.py")
    run(copy, python, "-m", "pyright", "attacks/query/gauss.py", "defenses/quantise.py")
    pytest_ = (python, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider")
    run(copy, *pytest_, "tests/test_golden.py", "-k", "gauss or quantise", "--golden=write")
    run(copy, *pytest_, "tests/test_golden.py", "tests/defenses", "-k", "gauss or quantise")
    run(copy, *pytest_, "tests/test_layers.py", "tests/config/test_configs.py")
    shown = run(copy, python, "-m", "bench", "attack=gauss", "defense=quantise", "samples=20", "threat.queries=20",
                "recipe.epochs=2", "device=cpu")  # fmt: skip
    assert "clean" in shown
