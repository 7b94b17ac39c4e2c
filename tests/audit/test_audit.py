"""The audit finds out no-ops and cheats, and leaves real robustness standing."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml

from bench.audit import leaderboard, protocol, selection, show, verdict
from bench.audit.protocol import LEVELS, Level, Subject
from bench.audit.run import Audit, Outcome, audit, is_due, of_another
from bench.config import grid, places
from bench.core.errors import BenchError
from tests.support import noops, shipped

FEW = Level("quick", 40, 200, 20, 1, (5, 10), 1, None, 0, None, False)


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


def test_later_attacks_are_sent_only_against_what_stands(bare: Audit) -> None:
    first = int(bare.clean.sum())
    later = [each for each in bare.outcomes if each.attacked is not None and not each.step.everyone]
    left = first
    for each in bare.outcomes:
        if each in later and not each.step.contest:
            assert each.tried == left, each.step.name
        left -= each.adds


def test_the_page_says_what_the_verdict_says_and_escapes(bare: Audit, tmp_path: Path) -> None:
    page = verdict.plain(bare, verdict.judge(bare))
    page["subject"]["defense"] = "<script>alert(1)</script>"
    paths = show.write(tmp_path, "a", page)
    assert json.loads(paths[0].read_text())["remains"] == page["remains"]
    assert f"{page['remains']['value']:.1f}" in paths[1].read_text()
    assert f"cost: {sum(each['rows'] for each in page['steps']):,} network rows" in paths[1].read_text()
    assert "<script>" not in paths[2].read_text() and "&lt;script&gt;" in paths[2].read_text()


def subject(**changes: object) -> Subject:
    known: dict = {
        "bare": False, "stochastic": False, "coupled": False, "differentiable": True, "adapts": False,
        "true_gradient": True, "kinds": ("identity",), "norm": "linf", "samples": 50,
    }  # fmt: skip
    return Subject(**known | changes)


def test_traits_select_the_attacks() -> None:
    def names(**changes: object) -> str:
        return "; ".join(step.name for step in selection.steps(subject(**changes), LEVELS["quick"]))

    assert "BPDA" in names() and "EOT" not in names() and "averaged" not in names()
    assert "EOT 5" in names(stochastic=True) and "averaged" in names(stochastic=True)
    assert "PGD-20 through" not in names(differentiable=False) and "BPDA" in names(differentiable=False)
    assert "BPDA" not in names(bare=True) and "transfer" not in names(bare=True)
    assert "OARS" in names(refuses=True) and "OARS" not in names() + names(refuses=True, norm="l2")
    (start,) = (
        step
        for step in selection.steps(subject(starts="test"), LEVELS["quick"])
        if step.name.startswith("HopSkipJump, 200")
    )
    assert "+attack.needs.starts={split: test, n: 50}" in start.words
    assert "GMSA" in names(adapts=True) and "RayS" not in names(norm="l2")
    early = [
        step
        for step in selection.steps(subject(stochastic=True), LEVELS["full"])
        if "attack.early_stop=true" in step.words
    ]
    assert not early  # one lucky draw is no success


def test_of_several_gradients_the_one_that_breaks_most_goes_on(bare: Audit) -> None:
    """Each gets the same images; more draws, APGD and FAB are for the best alone."""
    todo = selection.steps(subject(stochastic=True, kinds=("identity", "tanh")), LEVELS["standard"])
    first = [step for step in todo if step.contest and not step.winner]
    kinds = ["", *(f", BPDA ({kind})" for kind in ("identity", "tanh", "learned"))]
    assert [step.of for step in first] == [kind for kind in kinds for _ in ("margin", "cross-entropy")]
    later = [step for step in todo if step.winner]
    assert {step.of for step in later} == {step.of for step in first}
    attacked = next(each.attacked for each in bare.outcomes if each.attacked is not None)

    def done(step: protocol.Step, broken: int, adds: int) -> Outcome:
        return Outcome(step, "", attacked=attacked, broken=broken, adds=adds)

    outcomes = [done(step, broken, 1) for step, broken in zip(first, (3, 3, 4, 4, 5, 2, 1, 1), strict=True)]
    due = [step for step in later if is_due(step, outcomes)]
    assert {step.of for step in due} == {", BPDA (identity)"}  # 8 of it, 6, 7 and 2 of the others
    ladder = [
        step for step in later if step.of == ", BPDA (identity)" and "EOT" in step.name and "PGD-100" in step.name
    ]
    whole = [step for step in ladder if step.name.endswith(", on all that stand")]
    ladder = [step for step in ladder if step not in whole]
    assert [step.name.rpartition(" ")[2] for step in ladder] == ["20", "80", "320"]
    assert [step.after for step in whole] == [step.name for step in ladder] and {step.first for step in whole} == {None}
    assert {step.first for step in [*first, *ladder]} == {LEVELS["standard"].contest}
    assert is_due(ladder[0], outcomes) and not is_due(ladder[1], [*outcomes, done(ladder[0], 4, 0)])
    assert is_due(ladder[1], [*outcomes, done(ladder[0], 4, 1)])


def test_a_second_opinion_gets_its_whole_budget_only_where_a_part_broke_something() -> None:
    for level, part, whole in (("quick", "200", "1,000"), ("standard", "250", "5,000"), ("full", "1,000", "20,000")):
        named = {step.name: step for step in selection.steps(subject(stochastic=True), LEVELS[level])}
        for attack in ("Square averaged over 5", "SignHunter", "RayS", "HopSkipJump"):
            assert f"threat.queries={part.replace(',', '')}" in named[f"{attack}, {part} queries"].words
            assert named[f"{attack}, {whole} queries"].after == f"{attack}, {part} queries"
        assert not named[f"Square, {whole} queries"].after


def test_surrogates_are_trained_from_level_standard_on() -> None:
    def named(level: str = "standard", **changes: object) -> dict[str, protocol.Step]:
        return {step.name: step for step in selection.steps(subject(**changes), LEVELS[level])}

    own = "transfer from a network that learned from the defence's own answers"
    other = "transfer from a network of another architecture"

    def learns(level: str = "standard", **changes: object) -> bool:
        return any("BPDA (learned)" in name for name in named(level, **changes))

    assert not named()[own].skipped and not named()[other].skipped and learns()
    assert "level=standard" in named("quick")[own].skipped and not learns("quick")
    assert "somebody's object" in named(given=True)[own].skipped and not learns(given=True)
    assert "images of this size" in named(other=None)[other].skipped
    assert not learns(single=False) and not learns(adapts=True)
    assert not any("architecture" in name or "answers" in name for name in named(bare=True))


@pytest.mark.slow
def test_every_step_of_level_standard_runs(artifacts: Path, tmp_path: Path) -> None:
    """On few images and with few queries; its surrogates are trained, the first images alone get FAB, sanity and controls."""
    effort = replace(LEVELS["standard"], samples=24, queries=60, steps=8, draws=(2, 3), contest=16, fab=12, checked=6)
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


def test_the_audited_defences_own_settings_are_its_siblings_but_not_its_controls() -> None:
    typed = ["defense=unig_leave", "defense.group.size=20", "samples=20"]
    for chosen, dropped in (("logit_noise", True), ("unig_leave_companions", False), ("unig_leave_noise", False)):
        assert of_another(typed[1], typed, [f"defense={chosen}", "attack=square"]) == dropped
        assert not of_another(typed[2], typed, [f"defense={chosen}"])
    assert not of_another(typed[1], typed, ["attack=square"])


def test_eps_steps_and_controls_are_asked_of_every_defence() -> None:
    def named(part: str, **changes: object) -> dict[str, protocol.Step]:
        every = selection.steps(subject(eps=Fraction(1, 12), logit_difference=2.0, **changes), LEVELS["quick"])
        return {step.name: step for step in every if part in step.name}

    for at, eps in ("half the", "1/24"), ("twice the", "1/6"), ("a huge", "1/2"):
        (step,) = named(f"{at} eps").values()
        assert f"threat.eps={eps}" in step.words and step.counts == (at == "half the")
    (many,) = named("four times").values()
    assert "attack.steps=160" in many.words and not many.everyone
    (control,) = named("by chance").values()
    assert not control.counts and "defense.std=0.632" in control.words  # 2 / sqrt(10)
    (seeds,) = named("other seeds", trained=False).values()
    assert (
        "come of no recipe" in seeds.skipped and "level=standard" in next(iter(named("other seeds").values())).skipped
    )


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


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(BenchError, match="level=quik is unknown; it is one of quick, standard, full"):
        protocol.level("quik")


def test_the_leaderboard_says_what_the_pages_say(bare: Audit, tmp_path: Path) -> None:
    page = verdict.plain(bare, verdict.judge(bare))
    show.write(tmp_path, "a", page | {"name": "Mine"})
    show.write(tmp_path, "b", page | {"level": "full"})
    pages = leaderboard.read(tmp_path, page["level"])
    (row,) = leaderboard.rows(pages)
    assert row["defence"] == "Mine" and row["remains"].startswith(f"{page['remains']['value']:.1f} [")
    text = leaderboard.markdown([row], pages)
    assert page["command"] in text and row["claimed"] in text
    assert leaderboard.comma_separated([row]).count("\n") == 2


def test_every_submission_composes() -> None:
    for each in yaml.safe_load((places.CONF / "leaderboard.yaml").read_text())["submissions"]:
        assert len(grid.cells([*each["words"], "attack=none"])) == 1, each["name"]
