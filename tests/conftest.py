"""What every test may ask for: real data and weights where this machine has them, a place for what is trained, cells of
digits, and two networks with images that they get right."""

import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.assemble import networks
from bench.config import grid, places
from bench.data.samples import load
from tests.support import caches, shipped
from tests.support.cells import Compose
from tests.support.scene import CPU, Scene, right

torch.set_num_threads(1)  # two test processes share two cores
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity",
        type=int,
        default=None,
        metavar="N",
        help="compare attacks with other libraries on N real images (at most 200) instead of 12, and in their dear settings too",
    )
    parser.addoption("--golden", choices=["check", "write"], default="check", help="write: golden records anew")


@pytest.fixture(scope="session")
def parity(request: pytest.FixtureRequest) -> int | None:
    """How many real images the comparisons with other libraries are of; None: as few as show a fault."""
    return request.config.getoption("parity")


def _root(variable: str, folder: str) -> Path:
    root = Path(os.environ[variable]) if os.environ.get(variable) else SHARED / folder
    if not root.is_dir():
        pytest.skip(f"needs real files: set {variable} (looked in {root})")
    return root


@pytest.fixture(scope="session")
def bench_data() -> Path:
    return _root("BENCH_DATA", "data")


@pytest.fixture(scope="session")
def bench_weights() -> Path:
    return _root("BENCH_WEIGHTS", "weights")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Comparisons on real CIFAR images take a core half a minute each."""
    for item in items:
        chosen = (
            item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        )
        if "cifar" in (*getattr(item, "fixturenames", ()), *(each for each in chosen if isinstance(each, str))):
            item.add_marker(pytest.mark.parity)


@pytest.fixture(autouse=True)
def _gpu(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if torch.cuda.is_available():
        caches.forget()


@pytest.fixture(autouse=True)
def _no_folders_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test adds to the search path and to `sys.path` is gone after it."""
    monkeypatch.setenv(places.VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where cells find trained weights: the shipped network is there already, what else they train stays for the session."""
    folder = tmp_path_factory.mktemp("artifacts")
    shipped.plant(folder)
    return folder


@pytest.fixture
def compose(tmp_path: Path, artifacts: Path) -> Compose:
    """The config of the one cell that the overrides describe, on the shipped network for digits, with a store of its own."""

    def one(*overrides: str, store: Path | None = None) -> dict[str, Any]:
        torch.set_num_threads(1)
        common = [
            "threads=1",
            "device=cpu",
            f"store={store or tmp_path / 'store'}",
            f"artifacts={artifacts}",
            "threat.eps=1/12",
            *shipped.DIGITS,
        ]
        (cell,) = grid.cells([*common, *overrides])
        return deepcopy(cell.config)  # cells share nodes: what a test changes in it stays its own

    return one


@pytest.fixture(scope="session")
def digits(artifacts: Path) -> Scene:
    (cell,) = grid.cells([*shipped.DIGITS, f"artifacts={artifacts}", "device=cpu", "threads=1"])
    test = load(cell.spec.dataset, cell.spec.samples, CPU)
    network, _ = networks.deployed(cell.spec, test, cell.runtime.artifacts)
    return right(network, test.images(list(range(300))), test.labels(list(range(300))), 200)


@pytest.fixture(scope="session")
def cifar(bench_data: Path, bench_weights: Path, parity: int | None, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("cifar")
    overrides = [
        "dataset=cifar10_jpeg", f"dataset.root={bench_data}", "model=vgg_fb_adv", f"model.build.root={bench_weights}",
        f"artifacts={folder}", "device=cpu",
    ]  # fmt: skip
    (cell,) = grid.cells(overrides)
    test = load(cell.spec.dataset, cell.spec.samples, CPU)
    network, _ = networks.deployed(cell.spec, test, cell.runtime.artifacts)
    first, n = (320, 200) if parity else (60, 32)
    return right(network, test.images(list(range(first))), test.labels(list(range(first))), n)
