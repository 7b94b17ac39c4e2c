"""The wheel by itself, outside the checkout: it carries what it needs, and the command runs from an empty folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bench.config import places

pytestmark = pytest.mark.slow
LEFT_OUT = shutil.ignore_patterns(".git", "build", "*.egg-info", "local", "artifacts", "__pycache__", ".venv*")
COMMAND = "import sys; from bench.__main__ import main; sys.argv[0] = 'defence-bench'; main()"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the tree, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(places.CHECKOUT, folder / "tree", ignore=LEFT_OUT)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    made = subprocess.run([*build, str(folder / "tree")], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


def command(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What the entry point does; of the environment only the third parties' packages."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    call = [sys.executable, "-P", "-c", COMMAND, *words]
    return subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_it_carries_every_yaml_and_number_and_the_command(site: Path) -> None:
    ours = {str(path.relative_to(places.CONF)) for path in places.CONF.rglob("*.yaml")}
    assert {str(path.relative_to(site / "bench_conf")) for path in (site / "bench_conf").rglob("*.yaml")} == ours
    printed = {path.name for path in (places.CHECKOUT / "results" / "papers").glob("*.csv")}
    assert {path.name for path in (site / "bench_results" / "papers").glob("*.csv")} == printed
    modules = {p.relative_to(places.CHECKOUT) for name in places.OURS for p in (places.CHECKOUT / name).rglob("*.py")}
    lacking = {path for path in modules if not (site / path).is_file() and "hydra_plugins" not in path.parts}
    assert not lacking, "pyproject's list of packages lacks a folder"
    (entry,) = site.glob("*.dist-info/entry_points.txt")
    assert "defence-bench = bench.__main__:main" in entry.read_text()


def test_it_runs_from_an_empty_folder_beside_the_published_numbers(site: Path, tmp_path: Path) -> None:
    typed = [
        "+experiment=digits_square",
        "samples=10",
        "threat.queries=5",
        "recipe.epochs=1",
        "defense=none",
        "device=cpu",
    ]
    run = command(site, tmp_path, *typed)
    assert run.returncode == 0, run.stderr
    assert "store: results" in run.stderr and list((tmp_path / "results" / "cells").glob("*/part-*.parquet"))
    report = command(site, tmp_path, "report", *typed)
    assert report.returncode == 0 and "Vanilla" in report.stdout, report.stderr
