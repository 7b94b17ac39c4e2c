"""Every printed number of the papers is claimed by one table entry or left out by one line; what is not is told."""

from pathlib import Path

import pytest

from bench.core.errors import BenchError
from bench.report import claims, paper_numbers
from bench.report.claims import Claims, Count, LeftOut


def test_every_printed_number_is_claimed_once_or_left_out_once() -> None:
    counted = claims.count()
    assert not [line for each in counted for line in each.troubles]
    for each in counted:
        assert len(each.rows) == len(each.claimed) + len(each.left_out)
    assert sum(len(each.rows) for each in counted) > 1000


def test_a_number_in_no_place_or_in_two_is_told() -> None:
    rows = [{"defense": name, "metric": "robust_acc"} for name in "abcd"]
    count = Count("x.csv", rows, {0: ["one"], 1: ["one", "two"], 3: ["one"]}, {3: ["left out: no code"]})
    assert count.troubles == [
        "x.csv, line 3 (b, robust_acc): accounted for 2 times: one; two",
        "x.csv, line 4 (c, robust_acc): in no table and not left out",
        "x.csv, line 5 (d, robust_acc): accounted for 2 times: one; left out: no code",
    ]
    assert claims.lines([count])[1].split() == ["x.csv", "4", "3", "1"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (LeftOut(csv="b.csv", reason="somebody else's"), "no b.csv below"),
        (
            LeftOut(csv="a.csv", where={"defense": "y", "attack": "none"}, reason="somebody else's"),
            "leaves out nothing",
        ),
        (LeftOut(csv="a.csv", where={"defence": "x"}, reason="somebody else's"), "no column defence"),
    ],
)
def test_a_line_that_leaves_out_nothing_is_refused(
    line: LeftOut, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.csv").write_text("defense,attack,value\nx,none,1\ny,Square,2\n")
    for module in (claims, paper_numbers):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    paper_numbers._named.cache_clear()
    try:
        monkeypatch.setattr(claims, "read", lambda: Claims(experiments=(), left_out=(line,)))
        with pytest.raises(BenchError, match=said):
            claims.count()
        monkeypatch.setattr(
            claims, "read", lambda: Claims(experiments=(), left_out=(LeftOut(csv="a.csv", reason="no code of it"),))
        )
        (found,) = claims.count()
        assert sorted(found.left_out) == [0, 1] and not found.troubles
    finally:
        paper_numbers._named.cache_clear()
