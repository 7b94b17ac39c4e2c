"""A Slurm for the tests of this folder."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import slurm


@pytest.fixture(scope="module")
def slurm_environment() -> Iterator[dict[str, str]]:
    if why := slurm.lacking():
        pytest.skip(why)
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # pytest's own are too long for a socket's name
    try:
        with slurm.running(folder) as environment:
            yield environment
    finally:
        shutil.rmtree(folder, ignore_errors=True)
