"""Tables in a terminal: blocks of columns as wide as there is room, no number cut."""

import re

import pytest

from bench.config import grid
from bench.report import reporter, specification, terminal
from bench.report.records import Records

STORE = grid.CONF.parent / "results" / "published"


@pytest.mark.parametrize("room", [60, 100, 200])
def test_no_number_is_cut_and_no_line_is_too_long(
    room: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(room))
    typed = ["+experiment=unig_digits", f"store={STORE}"]
    name, built = next(reporter.built_tables(grid.cells(typed), specification.read(typed), Records()))
    terminal.show(built, [])
    said = capsys.readouterr().out
    assert name and "…" not in said and max(map(len, said.splitlines())) <= room
    for entry in built.entries.values():
        assert entry.ours is not None
        assert f"{entry.ours.value:.{entry.kind.digits}f}" in said
    spans = re.findall(r"\[-?[\d.]+, -?[\d.]+\]", said)
    assert len(spans) == sum(1 for entry in built.entries.values() if entry.ours and entry.ours.low == entry.ours.low)
    assert [c for block in terminal.blocks(built, room) for c in block] == list(built.columns)
