"""scripts/unused.py: cells that no experiment names any more."""

from pathlib import Path

import pytest

from bench.config import grid
from bench.core.errors import BenchError
from scripts import unused


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The cells of digits_square, empty, an older one, and the experiment's table."""
    cells = grid.cells(["+experiment=digits_square"])
    for key in {cell.key for cell in cells} | {cell.clean_key for cell in cells} | {"0123456789abcdef"}:
        (tmp_path / "cells" / key).mkdir(parents=True)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "digits_square-square.md").write_text("")
    return tmp_path


def test_only_the_cells_that_no_table_needs_are_named_and_go_when_asked(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set((store / "cells").iterdir())
    unused.main([f"store={store}"])
    assert "0123456789abcdef" in capsys.readouterr().out
    assert set((store / "cells").iterdir()) == before  # it only told
    unused.main([f"store={store}", "delete=true", "digits_square"])
    assert before - set((store / "cells").iterdir()) == {store / "cells" / "0123456789abcdef"}


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["store=/nowhere"], "has no folder cells"),
        (["remove=true"], "no option remove"),
        (["digits_sqare"], "digits_sqare is unknown"),
    ],
)
def test_bad_words_get_one_line(typed: list[str], line: str, store: Path) -> None:
    with pytest.raises(BenchError, match=line):
        unused.main(typed if typed[0].startswith("store") else [f"store={store}", *typed])
