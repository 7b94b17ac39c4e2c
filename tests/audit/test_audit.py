"""The audit finds out no-ops and cheats, and leaves real robustness standing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.audit import selection, show, verdict
from bench.audit.protocol import LEVELS, Level, Step
from bench.audit.run import Audit, audit
from bench.core.errors import BenchError
from bench.store.records import Cell
from tests.support import noops, shipped

FEW = Level("quick", 40, 200, 20, 1, (5, 10), 1, (10, 3), None, 0, None, False)


def run(artifacts: Path, store: Path, effort: Level, *words: str) -> Audit:
    common = [f"artifacts={artifacts}", f"store={store}", "device=cpu", "threads=1", "threat.eps=1/12", *shipped.DIGITS]
    return audit([*common, *words], effort)


def named(defense: type) -> str:
    return f"defense._target_=tests.support.noops.{defense.__name__}"


@pytest.fixture(scope="module")
def bare(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    return run(artifacts, tmp_path_factory.mktemp("bare"), FEW)


@pytest.mark.parametrize(
    "defense",
    [pytest.param(each, marks=() if each in (noops.Large, noops.OneHot) else pytest.mark.dear) for each in noops.NOOPS],
    ids=lambda each: each.__name__,
)
def test_a_noop_ends_where_the_bare_network_does(defense: type, artifacts: Path, tmp_path: Path, bare: Audit) -> None:
    found = verdict.judge(run(artifacts, tmp_path, FEW, named(defense)))
    known = verdict.judge(bare)
    # One image of 40 is 2.5 points. A random no-op and one that answers labels alone get three more: a part of the quick
    # level's draws and queries is little against them (asked are 3 points at 200 images).
    room = 3 if defense not in (noops.Dithered, noops.OneHot) else 10.5
    assert found.headline.value <= known.headline.value + room, (found, known)
    assert found.claimed.value >= found.headline.value and found.gap >= 0


@pytest.mark.parametrize(
    ("defense", "words"),
    [
        (noops.Remembers, "it remembers"),
        (noops.Counts, "after 2,048 more queries"),
        (noops.SaysDeterministic, r"declares Traits\(stochastic=False\)"),
        (noops.Unkeyed, "its noise is not keyed"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_cheat_is_named_before_any_attack(defense: type, words: str, artifacts: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=words) as error:
        run(artifacts, tmp_path, FEW, named(defense))
    assert defense.__name__ in str(error.value) and "\n" not in str(error.value)


def test_a_concealed_gradient_is_flagged_with_what_was_seen(artifacts: Path, tmp_path: Path) -> None:
    found = run(artifacts, tmp_path, FEW, "defense=gcm")
    flags = verdict.judge(found).flags
    assert any("autograd's gradient is not that of the answers" in flag for flag in flags)
    assert any("attacks that go around the defence break" in flag for flag in flags)


def test_an_honest_network_has_no_flag_of_masking(bare: Audit) -> None:
    assert bare.facts.gradient is not None and bare.facts.gradient > 0.9
    assert not [flag for flag in verdict.judge(bare).flags if "gradient is not" in flag or "stand at a huge" in flag]


def test_what_remains_is_the_images_that_no_step_breaks(bare: Audit) -> None:
    """Recomputed from the records, image by image."""
    standing = dict(zip(bare.sample.tolist(), bare.clean.tolist(), strict=True))
    for outcome in bare.outcomes:
        if outcome.attacked is None or not outcome.step.counts:
            continue
        adds = 0
        for sample, fooled in zip(outcome.attacked.sample.tolist(), outcome.attacked.fooled.tolist(), strict=True):
            adds += fooled and standing[sample]
            standing[sample] = standing[sample] and not fooled
        assert adds == outcome.adds, outcome.step.name
        assert outcome.tried <= int(bare.clean.sum())
    found = verdict.judge(bare)
    assert found.headline.value == pytest.approx(100 * np.mean(list(standing.values())))


def test_a_second_run_finds_all_records_and_says_the_same(artifacts: Path, tmp_path: Path) -> None:
    once, again = (run(artifacts, tmp_path, FEW, "samples=15") for _ in range(2))
    one, two = (verdict.plain(each, verdict.judge(each)) for each in (once, again))
    for page in (one, two):
        page["facts"].pop("slowdown")
        for step in page["steps"]:
            step.pop("seconds")
    assert one == two


def test_a_part_of_an_attack_gets_no_more_images_than_it_is_for(artifacts: Path, tmp_path: Path) -> None:
    found = run(artifacts, tmp_path, replace(FEW, tried=5), "samples=20")
    standing = found.clean.copy()
    tried = dict[str, int]()
    for each in found.outcomes:
        if each.step.most is not None and each.attacked is not None:
            tried[each.step.name] = each.tried
            among = np.flatnonzero(standing)[:5] if not each.step.contest else None
            assert among is None or sorted(each.attacked.position.tolist()) == among.tolist(), each.step.name
        if each.attacked is not None and each.step.counts:
            standing[each.attacked.position[each.attacked.clean & each.attacked.fooled]] = False
    assert len(tried) >= 4 and max(tried.values()) == 5


def test_later_attacks_are_sent_only_against_what_stands(bare: Audit) -> None:
    first = int(bare.clean.sum())
    later = [each for each in bare.outcomes if each.attacked is not None and not each.step.everyone]
    left = first
    for each in bare.outcomes:
        if each in later and not each.step.contest:
            assert each.tried == left, each.step.name
        left -= each.adds


def test_steps_of_one_cell_count_its_rows_once(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step on all images that stand goes on in the cell of the step on the first of them."""
    words = ("attack=noise", "threat.queries=5")
    some = Step("some", "score", words, most=3)
    monkeypatch.setattr("bench.audit.selection.steps", lambda *_: [some, replace(some, name="all", most=None)])
    first, second = run(artifacts, tmp_path, FEW).outcomes
    assert first.cell == second.cell and first.tried == 3 < second.tried
    ledger = sum(Cell(tmp_path, first.cell).ledger().values())
    assert first.rows > 0 and second.rows > 0 and first.rows + second.rows == ledger


def test_the_page_says_what_the_verdict_says_and_escapes(bare: Audit, tmp_path: Path) -> None:
    page = verdict.plain(bare, verdict.judge(bare))
    page["subject"]["defense"] = "<script>alert(1)</script>"
    paths = show.write(tmp_path, "a", page)
    assert json.loads(paths[0].read_text())["remains"] == page["remains"]
    assert f"{page['remains']['value']:.1f}" in paths[1].read_text()
    total = sum(each["rows"] for each in page["steps"])
    dearest = max(each["rows"] for each in page["steps"])
    assert (
        f"cost: {total:,} network rows, {total / dearest:.1f} times those of its dearest attack" in paths[1].read_text()
    )
    assert "<script>" not in paths[2].read_text() and "&lt;script&gt;" in paths[2].read_text()


@pytest.mark.slow
def test_every_step_of_level_standard_runs(artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On few images and with few queries; its surrogates are trained (not to their end), the first images alone get FAB, sanity
    and controls."""
    chosen, short = selection.steps, ("attack.sources.a.recipe.epochs=2",)

    def steps(*of: Any) -> list[Step]:
        dear = ("attack=transfer_architecture", "attack=transfer_distilled")
        return [replace(each, words=each.words + short) if each.words[0] in dear else each for each in chosen(*of)]

    monkeypatch.setattr(selection, "steps", steps)
    effort = replace(
        LEVELS["standard"], samples=24, queries=60, steps=8, draws=(2, 3), averaged=(4, 2), tried=16, fab=6, checked=6
    )
    few = ["samples=24", "defense=gcm", "recipe.epochs=5"]
    found = run(artifacts, tmp_path, effort, *few)
    played = {each.step.name: each for each in found.outcomes}
    assert not [each.refused for each in found.outcomes if each.refused and "no image was left" not in each.refused]
    for part in (
        "BPDA (learned)",
        "FAB-T",
        "own answers",
        "another architecture",
        "other seeds",
        "undefended network, APGD-T",
    ):
        assert any(part in name for name in played), part
    checked = next(each for name, each in played.items() if "a huge eps" in name)
    assert checked.tried <= 6
    page = verdict.plain(found, verdict.judge(found))
    assert page["remains"]["value"] <= page["claimed"]["value"]


def test_more_room_that_breaks_fewer_and_late_steps_that_break_more_are_flags(bare: Audit) -> None:
    by_name = {each.step.name: each for each in bare.outcomes}
    half, same = (
        next(each for name, each in by_name.items() if what in name) for what in ("half the eps", "at the eps")
    )
    swapped = [
        replace(half, step=replace(same.step)),
        replace(same, step=replace(half.step)),
    ]  # half the eps breaks more
    assert half.broken < same.broken
    flags = verdict.judge(replace(bare, outcomes=(*bare.outcomes, *swapped))).flags
    assert any("at the eps" in flag and "half the eps" in flag for flag in flags)
    late = next(each for name, each in by_name.items() if "four times" in name)
    flags = verdict.judge(replace(bare, outcomes=(*bare.outcomes, replace(late, adds=5, attacked=same.attacked)))).flags
    assert any("four times the steps break 5 more" in flag for flag in flags)
    assert not any("four times" in flag or "half the" in flag for flag in verdict.judge(bare).flags)


def test_logits_that_move_by_chance_are_a_defences_measure(artifacts: Path, tmp_path: Path, bare: Audit) -> None:
    """Noise on the logits, audited as a defence, is as good as its own control."""
    found = run(artifacts, tmp_path, FEW, "defense=logit_noise", "defense.std=2.0", "samples=20")
    assert any(
        "as good as the defence: logits that move as far by chance" in flag for flag in verdict.judge(found).flags
    )
    assert found.facts.logit_difference == pytest.approx(2 * 10**0.5, rel=0.15)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["attack=square"], "the audit chooses the attacks"),
        (["seed=0,1"], "one audit at a time"),
        (["+experiment=x"], "chooses"),
    ],
)
def test_words_that_are_not_the_audits_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(BenchError, match=said):
        audit(words, FEW)
