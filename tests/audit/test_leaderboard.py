"""The leaderboard: its table is that of the pages, and a stranger's submissions are audited as ours are."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.audit import leaderboard, show, verdict
from bench.audit.run import audit
from bench.config import grid, places
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
