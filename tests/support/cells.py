"""Cells in tests: the type of the fixture `compose`, what a cell records, and whether two records are the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from bench.run import cell
from bench.store.records import Cell

Compose = Callable[..., dict[str, Any]]


def frame_of(config: dict[str, Any]) -> pd.DataFrame:
    return Cell(Path(config["store"]), cell.run(config)).frame()


def same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    """Bit for bit, but for seconds."""
    keep = [column for column in a.columns if column not in ("seconds", "position")]
    pd.testing.assert_frame_equal(
        a[keep].sort_values("sample", ignore_index=True),
        b[keep].sort_values("sample", ignore_index=True),
        check_exact=True,
    )
