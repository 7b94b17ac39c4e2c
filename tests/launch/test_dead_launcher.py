"""A launcher that starts nothing ends the sweep with its reason; it was tried for ever."""

from pathlib import Path
from typing import Any

import pytest
from hydra.plugins.launcher import Launcher

from bench.config import grid
from bench.core.errors import BenchError
from bench.run.sweep import Sweep
from tests.support import shipped


class Dead(Launcher):
    """As Ray's, with the address of no cluster."""

    def setup(self, **_: Any) -> None: ...

    def launch(self, *_: Any, **__: Any) -> Any:
        raise ValueError("no cluster\nat this address")


def test_its_reason_is_one_line(tmp_path: Path) -> None:
    cells = grid.cells([*shipped.DIGITS, f"store={tmp_path}", "seed=0,1", "samples.n=3"])
    with pytest.raises(BenchError, match=r"^the launcher began none of 2 cells: ValueError: no cluster"):
        Sweep(Dead(), cells).run()
