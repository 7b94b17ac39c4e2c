"""The leaderboard: its table is that of the pages, and a stranger's submissions are audited as ours are."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from bench.audit import leaderboard, show, verdict
from bench.audit.run import Audit, audit
from bench.config import grid, places
from bench.config.specs import CellSpec
from bench.core.errors import BenchError
from bench.verbs.leaderboard import main, submissions
from tests.audit.test_audit import FEW
from tests.support import shipped

WORDS = ["device=cpu", "threads=1", "threat.eps=1/12", "samples=8", *shipped.DIGITS]


def test_the_table_says_what_the_pages_say(artifacts: Path, tmp_path: Path) -> None:
    found = audit([*WORDS, f"artifacts={artifacts}", f"store={tmp_path / 's'}"], replace(FEW, queries=60, steps=8))
    page = verdict.plain(found, verdict.judge(found))
    show.write(tmp_path, "a", page | {"name": "Mine"})
    show.write(tmp_path, "b", page | {"level": "full"})
    pages = leaderboard.read(tmp_path, page["level"])
    (row,) = leaderboard.rows(pages)
    assert row["defence"] == "Mine" and row["remains"].startswith(f"{page['remains']['value']:.1f} [")
    text = leaderboard.markdown([row], pages)
    assert page["command"] in text and row["claimed"] in text
    assert leaderboard.comma_separated([row]).count("\n") == 2


def test_two_threats_are_two_pages_and_the_same_audit_is_one(artifacts: Path, tmp_path: Path) -> None:
    effort, few = replace(FEW, queries=20, steps=2), [*WORDS, f"artifacts={artifacts}", f"store={tmp_path / 's'}"]
    found = audit(few, effort)
    page = verdict.plain(found, verdict.judge(found))
    aimed = replace(found, cell=replace(found.cell, spec=_with_threat(found, goal="random")))
    smaller = replace(found, cell=replace(found.cell, spec=_with_threat(found, eps=Fraction(1, 24))))
    pages = [page, *(verdict.plain(each, verdict.judge(each)) for each in (aimed, smaller))]
    key, folder = found.cell.clean_key, tmp_path / "audits"
    assert {each.cell.clean_key for each in (aimed, smaller)} == {key}
    folder.mkdir()
    show.write(folder, f"{key}-{page['level']}", page)  # as an older version named it
    for each in (*pages, page):
        show.keep(folder, key, each)
    left = leaderboard.read(folder)
    assert sorted(each["threat"] for each in left) == sorted(["linf 1/12", "linf 1/24", "linf 1/12, goal random"])


def _with_threat(found: Audit, **changed: Any) -> CellSpec:
    return found.cell.spec.replace(threat=replace(found.cell.spec.threat, **changed))


def test_every_submission_of_ours_composes() -> None:
    for each in submissions():
        assert len(grid.cells([*each["words"], "attack=none"])) == 1, each["name"]


def _own(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "leaderboard.yaml").write_text(text)
    monkeypatch.setenv(places.VARIABLE, str(folder))


TWO = """submissions:
  - {name: A stranger's, words: [defense=gcm]}
  - {name: None such, words: [defense=gcn]}
"""


@pytest.mark.slow
def test_a_strangers_submissions_are_audited_and_one_that_fails_leaves_the_rest(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _own(tmp_path / "own", TWO, monkeypatch)
    with pytest.raises(SystemExit) as stop:
        main([*WORDS, f"artifacts={artifacts}", f"store={tmp_path / 's'}", f"to={tmp_path / 'table'}"])
    out, err = capsys.readouterr()
    assert stop.value.code == 1 and "error: None such: " in err and "gcm" in err  # the nearest name
    table = (tmp_path / "table" / "leaderboard.md").read_text()
    assert "| A stranger's | digits |" in table and out.startswith("A stranger's: claimed") and "None such" not in table


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("submissions: [", "is no YAML"),
        ("- a", "must be `submissions:`"),
        ("submissions: []", "must be `submissions:`"),
        ("submissions: [{name: a}]", "must be `submissions:`"),
        ("submissions: [{name: a, words: defense=gcm}]", "must be `submissions:`"),
        ("submissions: [{name: a, words: []}, {name: a, words: []}]", "two submissions are called 'a'"),
    ],
)
def test_a_file_that_is_none_is_one_line(text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _own(tmp_path / "own", text, monkeypatch)
    with pytest.raises(BenchError, match=said) as error:
        main([])
    assert "leaderboard.yaml" in str(error.value) and "\n" not in str(error.value)


def test_a_name_that_no_submission_has_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _own(tmp_path / "own", TWO, monkeypatch)
    with pytest.raises(BenchError, match="only=UniG is in no submission's name"):
        main(["only=UniG"])
