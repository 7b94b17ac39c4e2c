"""What every test may ask for: the real data and weights, where this machine has them."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # two test processes share two cores
SHARED = Path(__file__).resolve().parents[2] / "shared"


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


@pytest.fixture(autouse=True)
def _gpu(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
