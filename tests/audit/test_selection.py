"""Which attacks a defence's traits select, at which effort, against how many images."""

from fractions import Fraction

import pytest

from bench.audit import protocol, selection
from bench.audit.protocol import LEVELS, Subject
from bench.audit.run import Outcome, is_due, of_another
from bench.core.errors import BenchError


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


def test_of_several_gradients_the_one_that_breaks_most_goes_on() -> None:
    """Each gets the same images; more draws, APGD and FAB are for the best alone."""
    todo = selection.steps(subject(stochastic=True, kinds=("identity", "tanh")), LEVELS["standard"])
    first = [step for step in todo if step.contest and not step.winner]
    kinds = ["", *(f", BPDA ({kind})" for kind in ("identity", "tanh", "learned"))]
    assert [step.of for step in first] == [kind for kind in kinds for _ in ("margin", "cross-entropy")]
    later = [step for step in todo if step.winner]
    assert {step.of for step in later} == {step.of for step in first}

    def done(step: protocol.Step, broken: int, adds: int) -> Outcome:
        return Outcome(step, "", broken=broken, adds=adds)

    outcomes = [done(step, broken, 1) for step, broken in zip(first, (3, 3, 4, 4, 5, 2, 1, 1), strict=True)]
    due = [step for step in later if is_due(step, outcomes)]
    assert {step.of for step in due} == {", BPDA (identity)"}  # 8 of it, 6, 7 and 2 of the others
    ladder = [
        step for step in later if step.of == ", BPDA (identity)" and "EOT" in step.name and "PGD-100" in step.name
    ]
    whole = [step for step in ladder if step.name.endswith(", on all that stand")]
    ladder = [step for step in ladder if step not in whole]
    assert [step.name.rpartition(" ")[2] for step in ladder] == ["20", "80", "320"]
    assert [step.after for step in whole] == [step.name for step in ladder] and {step.most for step in whole} == {None}
    assert {step.most for step in [*first, *ladder]} == {LEVELS["standard"].tried}
    assert is_due(ladder[0], outcomes) and not is_due(ladder[1], [*outcomes, done(ladder[0], 4, 0)])
    assert is_due(ladder[1], [*outcomes, done(ladder[0], 4, 1)])


def test_apgd_takes_few_steps_where_each_averages_over_draws() -> None:
    for level, (steps, draws) in {name: each.averaged for name, each in LEVELS.items()}.items():
        for kind in ("", ", BPDA (identity)"):
            todo = selection.steps(subject(stochastic=True, kinds=("identity",)), LEVELS[level])
            step = next(each for each in todo if each.name == f"APGD-T to 9 classes{kind}, EOT {draws}")
            assert {f"attack.steps={steps}", f"attack.oracle.samples={draws}", "attack.early_stop=false"} <= {
                *step.words
            }
        certain = next(each for each in selection.steps(subject(), LEVELS[level]) if each.name == "APGD-T to 9 classes")
        assert {f"attack.steps={LEVELS[level].steps}", "attack.loss=dlr", "attack/oracle=exact"} <= {*certain.words}


def test_a_second_opinion_gets_its_whole_budget_only_where_a_part_broke_something() -> None:
    for level, part, whole in (("quick", "200", "1,000"), ("standard", "250", "5,000"), ("full", "1,000", "20,000")):
        named = {step.name: step for step in selection.steps(subject(stochastic=True), LEVELS[level])}
        for attack in ("Square averaged over 5", "SignHunter", "RayS", "HopSkipJump"):
            assert f"threat.queries={part.replace(',', '')}" in named[f"{attack}, {part} queries"].words
            assert named[f"{attack}, {part} queries"].most == LEVELS[level].tried
            assert named[f"{attack}, {whole} queries"].after == f"{attack}, {part} queries"
            assert named[f"{attack}, {whole} queries"].most is None
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


def test_an_unknown_level_is_named() -> None:
    with pytest.raises(BenchError, match="level=quik is unknown; it is one of quick, standard, full"):
        protocol.level("quik")


def test_fab_gets_every_image_where_it_broke_some_of_the_first() -> None:
    for level, first, whole in (("quick", None, None), ("standard", 25, 1000), ("full", 1000, None)):
        todo = selection.steps(subject(samples=1000, bare=True), LEVELS[level])
        found = [step for step in todo if "FAB" in step.name]
        assert [step.first for step in found] == [n for n in (first, whole) if n]
        assert [step.after for step in found[1:]] == [step.name for step in found[:-1]]
