"""What an audit ends in: claimed, what remains, and the signs that say why. Records in, numbers out."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from bench.audit import protocol
from bench.audit.run import Audit, Outcome, broken, one_is_random
from bench.core.threat import Threat
from bench.report.masking_flags import SLACK, STANDING, ZERO
from bench.report.values import Value, share_of
from bench.store.provenance import cpu_name, provenance


@dataclass(frozen=True)
class Verdict:
    """claimed: the best number that a usual evaluation would print, of `claimed_by`. remains: images that no attack breaks, by
    the first answer, and `re_evaluated`: that most re-evaluations don't. gap: points between claimed and remains."""

    claimed: Value
    claimed_by: str
    remains: Value
    re_evaluated: Value
    clean: Value
    gap: float
    flags: tuple[str, ...]
    undecided: str
    not_tried: tuple[tuple[str, str], ...]

    @property
    def headline(self) -> Value:
        return self.re_evaluated


def judge(found: Audit) -> Verdict:
    random = found.facts.traits["stochastic"]
    usual = {
        each.step.name: _own(found, each) for each in found.outcomes if each.step.usual and each.attacked is not None
    }
    claimed_by = max(
        usual, key=lambda name: usual[name].value, default="the clean accuracy: no usual attack could be run"
    )
    claimed = usual.get(claimed_by, share_of(found.clean))
    remains = share_of(found.clean & ~found.fooled(re_evaluated=False))
    re_evaluated = share_of(found.clean & ~found.fooled(re_evaluated=random))
    return Verdict(
        claimed=claimed,
        claimed_by=claimed_by,
        remains=remains,
        re_evaluated=re_evaluated,
        clean=share_of(found.clean),
        gap=claimed.value - re_evaluated.value,
        flags=tuple(_flags(found)),
        undecided=_undecided(found),
        not_tried=tuple((each.step.name, each.refused) for each in found.outcomes if each.refused),
    )


def _own(found: Audit, outcome: Outcome, first: int | None = None) -> Value:
    """Robust accuracy under this step alone, of one that was sent against every image, or against the first so many."""
    assert outcome.attacked is not None
    standing = found.clean & ~broken(outcome.attacked, len(found.clean), re_evaluated=False)
    return share_of(standing[: outcome.step.first if first is None else first])


def _flags(found: Audit) -> list[str]:
    flags, done = list(found.facts.notes), [each for each in found.outcomes if each.attacked is not None]
    for each in done:
        assert each.attacked is not None
        zero = each.attacked.grad_zero[~np.isnan(each.attacked.grad_zero)]
        if len(zero) and float(zero.mean()) > ZERO:
            flags.append(f"zero gradients ({float(zero.mean()):.0%} of entries, {each.step.name})")
        odd = each.attacked.grad_nonfinite[~np.isnan(each.attacked.grad_nonfinite)]
        if len(odd) and float((odd > 0).mean()) > 0:
            flags.append(f"non-finite gradients ({float((odd > 0).mean()):.0%} of images, {each.step.name})")
        if "huge eps" in each.step.name and (left := _own(found, each).value) > STANDING:
            flags.append(f"{left:.1f} stand at a huge eps ({each.step.name})")
        if each.step.name == "noise":
            lost = share_of(found.clean[: each.step.first]).value - _own(found, each).value
            flags += [f"noise alone breaks {lost:.1f} points"] if lost > 10 else []
    flags += [*_weak_attacks(found, done), *_contradictions(found, done)]
    for each in done:
        if each.step.part == "control":
            left, usual = _own(found, each).value, _usual_score(found, each.step.first)
            if left >= usual - SLACK:
                flags.append(f"as good as the defence: {each.step.name} ({left:.1f} against {usual:.1f})")
    return flags


def _weak_attacks(found: Audit, done: list[Outcome]) -> Iterator[str]:
    """Signs that the attacks, not the defence, are at fault: more room or more steps should break no fewer, and few more."""
    left = {each.step.name: _own(found, each).value for each in done if each.step.everyone}
    for each in done:
        if each.step.beside in left and left[each.step.name] > left[each.step.beside] + SLACK:
            yield f"{left[each.step.name]:.1f} stand: {each.step.name}; {left[each.step.beside]:.1f}: {each.step.beside}"
        if "times the steps" in each.step.name and each.adds > max(1, len(found.clean) / 100):
            yield f"four times the steps break {each.adds} more images"


def _usual_score(found: Audit, first: int | None) -> float:
    """On the first so many images."""
    scores = [
        _own(found, each, first).value
        for each in found.outcomes
        if each.step.usual and each.step.part == "score" and each.attacked
    ]
    return min(scores, default=100.0)


def _contradictions(found: Audit, done: list[Outcome]) -> Iterator[str]:
    """Attacks that break what the defence's own gradients don't: those who have true gradients gain nothing from other ways."""
    straight = [each for each in done if each.step.part == "white-box" and not each.step.adaptive]
    if not straight:
        return
    left = found.clean & ~_union(found, straight)
    for what, others in (
        ("attacks that go around the defence", [each for each in done if each.step.adaptive]),
        ("transfer", [each for each in done if each.step.part == "transfer"]),
        ("score attacks", [each for each in done if each.step.part == "score" and each.step.counts]),
        ("label-only attacks", [each for each in done if each.step.part == "label"]),
    ):
        more = int((left & _union(found, others)).sum())
        if more > max(1, SLACK * len(left) / 100):
            kept = share_of(left).value
            yield f"{what} break {more} images that its own gradients don't ({kept:.1f} -> {kept - 100 * more / len(left):.1f})"


def _union(found: Audit, outcomes: list[Outcome]) -> np.ndarray:
    """(N,) bool: broken by some of them."""
    union = np.zeros(len(found.clean), dtype=bool)
    for each in outcomes:
        assert each.attacked is not None
        union |= broken(each.attacked, len(union), one_is_random(each.attacked))
    return union


def _undecided(found: Audit) -> str:
    """Does more effort still break more?"""
    last = [
        each for each in found.outcomes if each.attacked is not None and each.step.counts and not each.step.everyone
    ][-3:]
    left = int((found.clean & ~found.fooled(found.facts.traits["stochastic"])).sum())
    if not last or not left:
        return "nothing is left to decide"
    added = ", ".join(f"{each.adds} by {each.step.name}" for each in last)
    word = "more effort may break more" if sum(each.adds for each in last) else "they agree"
    return f"the last {len(last)} attacks on what stood added {added}: {word}; {left} images stand"


def _threat(threat: Threat) -> str:
    """An attacker who must reach one class is a weaker one, so that the goal is said where there is one."""
    goal = "" if threat.goal == "untargeted" else f", goal {threat.goal}"
    return f"{threat.norm} {threat.eps}{goal}"


def plain(found: Audit, verdict: Verdict) -> dict[str, Any]:
    """For JSON: everything that the page says, and what it was made of."""

    def number(value: Value) -> dict[str, float]:
        return {"value": round(value.value, 2), "low": round(value.low, 2), "high": round(value.high, 2), "n": value.n}

    return {
        "protocol": protocol.VERSION,
        "level": found.level.name,
        "date": date.today().isoformat(),
        "command": protocol.command(found.typed, found.level.name),
        "words": list(found.typed),
        "made": provenance() | {"cpu": cpu_name()},
        "subject": {group: found.cell.choices.get(group) for group in ("dataset", "model", "recipe", "defense")},
        "threat": _threat(found.cell.spec.threat),
        "claimed": number(verdict.claimed) | {"by": verdict.claimed_by},
        "remains": number(verdict.re_evaluated),
        "remains_first_answer": number(verdict.remains),
        "clean": number(verdict.clean),
        "gap": round(verdict.gap, 2),
        "flags": list(verdict.flags),
        "undecided": verdict.undecided,
        "by_eps": [
            [each.step.name, round(_own(found, each).value, 2)]
            for each in found.outcomes
            if each.step.part == "sanity"
            and each.step.everyone
            and "margin" in each.step.name
            and each.attacked is not None
        ],
        "not_tried": [{"step": name, "why": why} for name, why in verdict.not_tried],
        "facts": {
            **found.facts.traits,
            "clean_draws": [round(each, 2) for each in found.facts.clean],
            "logit_difference": round(found.facts.logit_difference, 3),
            "parameters": found.facts.parameters,
            "macs": found.facts.macs,
            "slowdown": round(found.facts.slowdown, 2),
            "gradient_agreement": found.facts.gradient,
        },
        "steps": [_step(each) for each in found.outcomes],
    }


def _step(outcome: Outcome) -> dict[str, Any]:
    about = {
        "name": outcome.step.name, "part": outcome.step.part, "usual": outcome.step.usual, "tried": outcome.tried,
        "broken": outcome.broken, "adds": outcome.adds, "rows": outcome.rows, "seconds": round(outcome.seconds, 1),
        "refused": outcome.refused, "command": outcome.command,
    }  # fmt: skip
    if outcome.attacked is not None and outcome.step.part in ("score", "label"):
        found = outcome.attacked.clean & outcome.attacked.fooled
        about["curve"] = sorted(int(q) for q in outcome.attacked.queries[found])  # queries at which an image fell
    return about
