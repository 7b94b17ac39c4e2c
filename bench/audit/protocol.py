"""Which attacks a defence faces, chosen by its traits: the protocol, versioned so that two audits compare. Imports no torch.

Sources: Athalye et al. 2018 (BPDA, EOT), Carlini et al. 2019 (what an evaluation owes), Tramer et al. 2020 (attacks that fit the
defence), Croce and Hein 2020 (APGD and its parts). README.md beside this file says the same in prose.
"""

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from bench.core.errors import BenchError, nearest

VERSION = 2
MANY_STEPS = 100  # of a descent to each class
Part = Literal["sanity", "white-box", "transfer", "score", "label", "control"]


@dataclass(frozen=True)
class Level:
    """How much effort. samples: the first so many of the cell's order (None: all)."""

    name: str
    samples: int | None
    queries: int
    steps: int
    restarts: int
    draws: tuple[int, ...]  # EOT's, raised as long as more of them break more
    engine: tuple[str, ...]  # the parts of AutoAttack's engine
    targets: int  # of MultiTargeted, where the engine is no use
    surrogates: bool  # are networks trained to transfer from?


LEVELS = {
    each.name: each
    for each in (
        Level("quick", 50, 1000, 40, 3, (5, 20, 40), ("apgd-ce", "apgd-t"), 9, False),
        Level("standard", 1000, 5000, 100, 5, (5, 20, 80, 320), ("apgd-ce", "apgd-t", "fab-t"), 9, True),
        Level("full", None, 20000, 200, 10, (5, 20, 80, 320, 1280), ("apgd-ce", "apgd-t", "fab-t", "square"), 9, True),
    )
}


@dataclass(frozen=True)
class Subject:
    """What the protocol must know of a defence."""

    bare: bool  # no defence around the network
    stochastic: bool
    coupled: bool
    differentiable: bool
    adapts: bool  # itself to each batch (DENT)
    true_gradient: bool  # differentiable, and autograd's gradient is that of the answers
    kinds: tuple[str, ...]  # the backward passes that it offers to BPDA
    norm: str
    samples: int
    classes: int = 10
    siblings: frozenset[str] = frozenset()  # other YAMLs of the same defence: noise, companions, copies
    defense: str = "none"  # its YAML
    refuses: bool = False  # queries that resemble earlier ones
    eps: Fraction = Fraction(8, 255)  # the threat's
    trained: bool = True  # the model's weights come of a recipe, so that one of another seed can be trained
    logit_difference: float = 0.0  # mean l2 distance to the bare network's logits


@dataclass(frozen=True)
class Step:
    """One cell of the audit."""

    name: str
    part: Part
    words: tuple[str, ...]
    usual: bool = False  # what a usual evaluation runs and prints, on every image
    everyone: bool = False  # not only on the images that still stand
    counts: bool = True  # within the threat: what it breaks is broken
    adaptive: bool = False  # goes around the defence (BPDA), or averages over its draws (EOT)
    after: str = ""  # only where that step broke an image
    beside: str = ""  # that step on the same images at the threat's eps: at a larger one no more images may stand
    skipped: str = ""  # why it isn't run


def level(name: str) -> Level:
    if name not in LEVELS:
        raise BenchError(f"level={name} is unknown; it is one of {', '.join(LEVELS)}{nearest(name, LEVELS)}")
    return LEVELS[name]


def steps(subject: Subject, effort: Level) -> list[Step]:
    """In the order in which they run: cheap ones first, each next one on what still stands."""
    return [
        *_cheap(subject),
        *_usual(subject, effort),
        *_white_box(subject, effort),
        *_score(subject, effort),
        *_label(subject, effort),
        *_surrogates(subject, effort),
        *_sanity(subject, effort),
        *_controls(subject, effort),
    ]


def _cheap(subject: Subject) -> Iterator[Step]:
    yield Step("noise", "sanity", ("attack=noise", "threat.queries=100"), everyone=True)
    if not subject.bare:
        yield Step("transfer from the undefended network", "transfer", ("attack=transfer_undefended",), everyone=True)
        words = ("attack=transfer_undefended_diverse",)
        yield Step("transfer from the undefended network, diverse inputs", "transfer", words)


def _usual(subject: Subject, effort: Level) -> Iterator[Step]:
    """The two numbers that papers print: PGD straight through the defence, and Square once."""
    if subject.differentiable:
        words = (*_pgd(subject, 20, "cross_entropy"), "attack/oracle=exact")
        yield Step("PGD-20 through the defence", "white-box", words, usual=True, everyone=True)
    square = ("attack=square", f"threat.queries={effort.queries}")
    yield Step(f"Square, {effort.queries:,} queries", "score", square, usual=True, everyone=True)


def _pgd(subject: Subject, steps: int, loss: str, restarts: int = 1) -> tuple[str, ...]:
    early = "false" if subject.stochastic else "true"  # one lucky draw is no success
    return (
        "attack=pgd",
        f"attack.steps={steps}",
        f"attack.step={2.5 / steps:.6g}",
        f"attack.loss={loss}",
        f"attack.restarts={restarts}",
        f"attack.early_stop={early}",
    )


def _oracles(subject: Subject) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """(name, words for one draw, words for many draws): the exact gradient where there is one, and every other backward pass."""
    found: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
    if subject.differentiable:
        found.append(("", ("attack/oracle=exact",), ("attack/oracle=eot",)))
    for kind in () if subject.bare else subject.kinds:
        one = ("attack/oracle=bpda", f"attack.oracle.kind={kind}")
        found.append((f", BPDA ({kind})", one, ("attack/oracle=eot_bpda", f"attack.oracle.inner.kind={kind}")))
    return found


def _white_box(subject: Subject, effort: Level) -> Iterator[Step]:
    for name, one, many in _oracles(subject):
        for loss in ("margin", "cross_entropy"):
            before = ""
            for draws in effort.draws if subject.stochastic else (1,):
                oracle = one if draws == 1 else (*many, f"attack.oracle.samples={draws}")
                eot = "" if draws == 1 else f", EOT {draws}"
                label = f"PGD-{effort.steps} {loss.replace('_', '-')}{name}{eot}"
                restarts = 1 if subject.stochastic else effort.restarts
                words = (*_pgd(subject, effort.steps, loss, restarts), *oracle)
                yield Step(label, "white-box", words, adaptive=bool(name or eot), after=before)
                before = label
    if subject.adapts:
        yield Step("GMSA", "white-box", ("attack=gmsa",), adaptive=True)
    if not (oracles := _oracles(subject)):
        return
    name, one, many = oracles[0 if subject.true_gradient else -1]
    if subject.stochastic or subject.coupled:  # the engine stops at lucky draws, and knows no groups
        draws = effort.draws[0]  # few: it is the classes and the steps that count here
        oracle = (*many, f"attack.oracle.samples={draws}") if subject.stochastic else one
        targets = min(effort.targets, subject.classes - 1)
        words = (
            "attack=multi_targeted", f"attack.targets={targets}", f"attack.steps={MANY_STEPS}",
            f"attack.step={2.5 / MANY_STEPS:.6g}", *oracle,
        )  # fmt: skip
        eot = f", EOT {draws}" if subject.stochastic else ""
        yield Step(f"MultiTargeted PGD to {targets} classes{name}{eot}", "white-box", words, adaptive=bool(name or eot))
        return
    parts = tuple(part for part in effort.engine if subject.classes >= 10 or part in ("apgd-ce", "square"))
    words = (
        "attack=autoattack", "attack.engine=custom", f"attack.attacks=[{','.join(parts)}]",
        f"attack.chunk={subject.samples}", *one,
    )  # fmt: skip
    yield Step(f"AutoAttack's {', '.join(parts)}{name}", "white-box", words, adaptive=bool(name))


def _surrogates(subject: Subject, effort: Level) -> Iterator[Step]:
    """Networks that the attacker trains. Who has the bare network itself needs none."""
    if subject.bare:
        return
    skipped = ""
    if not subject.trained:
        skipped = "the model's weights come of no recipe, so that none of another seed can be trained"
    elif not effort.surrogates:
        skipped = "two networks must be trained; level=standard does"
    name = "transfer from two networks of other seeds"
    yield Step(name, "transfer", ("attack=transfer_seeds",), skipped=skipped)


def _score(subject: Subject, effort: Level) -> Iterator[Step]:
    budget = f"threat.queries={effort.queries}"
    if subject.stochastic:
        words = ("attack=square", budget, "queries_per_image=5", "acceptance_z=1")
        yield Step(f"Square averaged over 5, {effort.queries:,} queries", "score", words)
    if subject.refuses and subject.norm == "linf":
        yield Step(f"OARS, {effort.queries:,} queries", "score", ("attack=oars", budget), adaptive=True)
    yield Step(f"SignHunter, {effort.queries:,} queries", "score", ("attack=signhunter", budget))
    for sibling, words in (("companions", "a batch of one"), ("copies", "the attacker's own batch")):
        if subject.coupled and sibling in subject.siblings:
            chosen = (f"defense={subject.defense}_{sibling}", "attack=square", budget)
            yield Step(f"Square, {words}", "score", chosen)


def _label(subject: Subject, effort: Level) -> Iterator[Step]:
    budget = f"threat.queries={effort.queries}"
    if subject.norm == "linf":
        yield Step(f"RayS, {effort.queries:,} queries", "label", ("attack=rays", budget))
    yield Step(
        f"HopSkipJump, {effort.queries:,} queries",
        "label",
        ("attack=hopskipjump", budget, "+attack.needs.starts={split: train, n: 200}"),
    )


def _sanity(subject: Subject, effort: Level) -> Iterator[Step]:
    """The best gradient, with momentum, on every image at half the threat's eps, at that, at twice that, and at a huge one, where
    nothing may stand; and with four times the steps, which may break few more. What breaks outside the threat says something of
    the attack alone."""
    oracles = _oracles(subject)
    if not oracles:
        return
    name, one, many = oracles[0 if subject.true_gradient else -1]
    draws = effort.draws[0]
    oracle = (*many, f"attack.oracle.samples={draws}") if subject.stochastic else one
    adaptive = bool(name) or subject.stochastic
    name += f", EOT {draws}" if subject.stochastic else ""
    words = (*_pgd(subject, effort.steps, "margin"), "attack.momentum=1.0", *oracle)  # a cell of its own
    half, same, twice, huge = (
        f"momentum PGD-{effort.steps} margin{name} at {eps} eps" for eps in ("half the", "the", "twice the", "a huge")
    )
    yield Step(half, "sanity", (*words, f"threat.eps={subject.eps / 2}"), everyone=True, adaptive=adaptive)
    yield Step(same, "sanity", words, everyone=True, adaptive=adaptive, beside=half)
    if subject.norm != "linf" or subject.eps <= Fraction(1, 2):
        yield Step(twice, "sanity", (*words, f"threat.eps={subject.eps * 2}"), everyone=True, counts=False, beside=same)
    largest = "threat.eps=1/2" if subject.norm == "linf" else "threat.eps=20"
    yield Step(huge, "sanity", (*words, largest), everyone=True, counts=False)
    more = (*_pgd(subject, 4 * effort.steps, "margin"), *oracle)
    yield Step(f"PGD-{4 * effort.steps} margin{name}, four times the steps", "sanity", more, adaptive=adaptive)


def _controls(subject: Subject, effort: Level) -> Iterator[Step]:
    """What is no defence, under the attack that a usual evaluation prints."""
    square = ("attack=square", f"threat.queries={effort.queries}")
    if "noise" in subject.siblings:
        words = (f"defense={subject.defense}_noise", *square)
        yield Step("the noise alone, without the defence, under Square", "control", words, everyone=True, counts=False)
    if not subject.bare and subject.logit_difference > 0:
        std = subject.logit_difference / math.sqrt(subject.classes)
        words = ("defense=logit_noise", f"defense.std={std:.3g}", *square)
        name = "logits that move as far by chance, under Square"
        yield Step(name, "control", words, everyone=True, counts=False)


def command(typed: Sequence[str], level: str) -> str:
    """That regenerates the audit."""
    return shlex.join(["python", "-m", "bench.audit", *typed, f"level={level}"])
