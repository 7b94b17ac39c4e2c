"""A store with the digits network trained once, shared by every test that runs cells."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.config import grid

Compose = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture
def compose(tmp_path: Path, artifacts: Path) -> Compose:
    """The config of the one cell that the overrides describe, on digits and with a store of its own."""

    def one(*overrides: str, store: Path | None = None) -> dict[str, Any]:
        torch.set_num_threads(1)
        common = [
            "threads=1",
            "device=cpu",
            f"store={store or tmp_path / 'store'}",
            f"artifacts={artifacts}",
            "threat.eps=1/12",
        ]
        (cell,) = grid.cells([*common, *overrides])
        return cell.config

    return one
