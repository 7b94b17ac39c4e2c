"""The attacks that a defence's traits select, in the order in which they run. README.md beside this file says the same in prose.

Sources: Athalye et al. 2018 (BPDA, EOT), Carlini et al. 2019 (what an evaluation owes), Tramer et al. 2020 (attacks that fit the
defence), Croce and Hein 2020 (APGD, FAB).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from bench.audit.protocol import Level, Part, Step, Subject

CLASSES = 9  # that APGD-T aims at


def steps(subject: Subject, effort: Level) -> list[Step]:
    """In the order in which they run: cheap ones first, each next one on what still stands."""
    return [
        *_cheap(subject, effort),
        *_white_box(subject, effort),
        *_score(subject, effort),
        *_label(subject, effort),
        *_surrogates(subject, effort),
        *_sanity(subject, effort),
        *_controls(subject, effort),
    ]


def _cheap(subject: Subject, effort: Level) -> Iterator[Step]:
    yield Step("noise", "sanity", ("attack=noise", "threat.queries=100"), everyone=True, first=effort.tried)
    if subject.bare:
        return
    yield Step("transfer from the undefended network", "transfer", ("attack=transfer_undefended",), everyone=True)
    words = ("attack=transfer_undefended_diverse",)
    yield Step("transfer from the undefended network, diverse inputs", "transfer", words)


def _pgd(subject: Subject, steps: int, loss: str) -> tuple[str, ...]:
    early = "false" if subject.stochastic else "true"  # one lucky draw is no success
    return (
        "attack=pgd", f"attack.steps={steps}", f"attack.step={2.5 / steps:.6g}", f"attack.loss={loss}",
        f"attack.early_stop={early}",
    )  # fmt: skip


@dataclass(frozen=True)
class _Gradient:
    """A way to a gradient, and the words for one draw and for many."""

    name: str
    one: tuple[str, ...]
    many: tuple[str, ...]

    def words(self, draws: int) -> tuple[str, ...]:
        return self.one if draws == 1 else (*self.many, f"attack.oracle.samples={draws}")


def _gradients(subject: Subject, effort: Level) -> list[_Gradient]:
    """The exact one where there is one, and every other backward pass."""
    found = [_Gradient("", ("attack/oracle=exact",), ("attack/oracle=eot",))] if subject.differentiable else []
    kinds = () if subject.bare else subject.kinds
    learned = ("learned",) if _learns(subject, effort) else ()
    for kind in (*kinds, *learned):
        more = ("+surrogate@attack.surrogate=answers",) if kind == "learned" else ()
        one = ("attack/oracle=bpda", f"attack.oracle.kind={kind}", *more)
        many = ("attack/oracle=eot_bpda", f"attack.oracle.inner.kind={kind}", *more)
        found.append(_Gradient(f", BPDA ({kind})", one, many))
    return found


def _learns(subject: Subject, effort: Level) -> bool:
    """Is a network trained to answer as the defended one does? Not of one that adapts itself to each batch."""
    return effort.surrogates and not (subject.bare or subject.given or subject.adapts) and subject.single


def _white_box(subject: Subject, effort: Level) -> Iterator[Step]:
    """First what papers print, straight through the defence on every image; then every gradient on both losses, on the same
    images; then APGD, more draws and FAB by the one that broke most. Nine short runs of APGD-T break more of a random victim
    than fewer long ones at the same cost, and their loss is the margin, which no draw's own scale weighs."""
    if subject.differentiable:
        words = (*_pgd(subject, 20, "cross_entropy"), "attack/oracle=exact")
        yield Step("PGD-20 through the defence", "white-box", words, usual=True, everyone=True)
    gradients, draws = _gradients(subject, effort), effort.draws[0] if subject.stochastic else 1
    eot = f", EOT {draws}" if subject.stochastic else ""
    losses = ("margin", "cross_entropy")
    contest = "gradients"
    for each in gradients:
        for loss in losses:
            words = (*_pgd(subject, effort.steps, loss), *each.words(draws))
            name = f"PGD-{effort.steps} {loss.replace('_', '-')}{each.name}{eot}"
            adaptive = bool(each.name or eot)
            yield Step(name, "white-box", words, adaptive=adaptive, contest=contest, of=each.name, most=effort.tried)
    for each in gradients:
        won = {"contest": contest, "of": each.name, "winner": True, "adaptive": bool(each.name or eot)}
        early = f"attack.early_stop={'false' if subject.stochastic else 'true'}"
        steps, averaged = effort.averaged if subject.stochastic else (effort.steps, 1)
        if subject.norm in ("linf", "l2"):
            targets = min(CLASSES, subject.classes - 1)
            if not subject.stochastic:
                name = f"APGD cross-entropy{each.name}"
                once = ("attack=apgd", f"attack.restarts={effort.restarts}", f"attack.steps={steps}", early, *each.one)
                yield Step(name, "white-box", once, **won)
            loss = "dlr" if subject.classes > 3 and not subject.stochastic else "margin"
            aimed = (
                "attack=apgd_targeted", f"attack.targets={targets}", f"attack.restarts={effort.rounds}", f"attack.steps={steps}",
                early, *each.words(averaged), f"attack.loss={loss}",
            )  # fmt: skip
            over = f", EOT {averaged}" if subject.stochastic else ""
            yield Step(f"APGD-T to {targets} classes{each.name}{over}", "white-box", aimed, **won)
        before = ""
        for more in effort.draws[1:] if subject.stochastic else ():
            name = f"PGD-{effort.steps} margin{each.name}, EOT {more}"
            words = (*_pgd(subject, effort.steps, "margin"), *each.words(more))
            yield Step(name, "white-box", words, after=before, most=effort.tried, **won)
            before = name
            if effort.tried is not None:  # more draws pay: they are for every image that stands
                yield Step(f"{name}, on all that stand", "white-box", words, after=name, **won)
        if effort.fab != 0 and subject.classes >= 10 and not (subject.stochastic or subject.coupled):
            before = ""
            for n in dict.fromkeys((_part(subject.samples, effort.fab), subject.samples)):
                fab = (
                    "attack=autoattack", "attack.engine=custom", "attack.attacks=[fab-t]", f"attack.chunk={n}", *each.one,
                )  # fmt: skip
                name = f"AutoAttack's FAB-T{each.name}, the first {n:,}"
                yield Step(name, "white-box", fab, first=n, after=before, **won)
                before = name
    if subject.adapts:
        yield Step("GMSA", "white-box", ("attack=gmsa",), adaptive=True)
    if not subject.bare and subject.norm in ("linf", "l2") and subject.classes > 3:
        words = ("attack=transfer_undefended_apgd", f"attack.craft.targets={min(CLASSES, subject.classes - 1)}")
        yield Step("transfer from the undefended network, APGD-T", "transfer", words)


def _part(samples: int, n: int | None) -> int:
    """So many of the samples; all, where chunks of n don't make them up: the engine knows whole chunks alone."""
    return samples if n is None or samples % n else min(n, samples)


def _surrogates(subject: Subject, effort: Level) -> Iterator[Step]:
    """Networks that the attacker trains. Who has the bare network itself needs none."""
    if subject.bare:
        return
    dear = "" if effort.surrogates else "networks must be trained; level=standard does"
    skipped = dear
    if not subject.trained:
        skipped = "the model's weights come of no recipe, so that none of another seed can be trained"
    name = "transfer from two networks of other seeds"
    yield Step(name, "transfer", ("attack=transfer_seeds",), skipped=skipped)
    model, recipe = subject.other or ("", "")
    none = "" if subject.other else "no small network is at hand for images of this size"
    chosen = (f"model@attack.sources.a.model={model}", f"recipe@attack.sources.a.recipe={recipe}")
    name = "transfer from a network of another architecture"
    yield Step(name, "transfer", ("attack=transfer_architecture", *chosen), skipped=dear or none)
    own = "the network is somebody's object, which no config can make again" if subject.given else ""
    name = "transfer from a network that learned from the defence's own answers"
    words = ("attack=transfer_distilled", f"model@attack.sources.a.model={model}")
    yield Step(name, "transfer", words, skipped=dear or own or none)


def _second_opinion(
    name: str, part: Part, words: tuple[str, ...], effort: Level, adaptive: bool = False
) -> Iterator[Step]:
    """A part of the budget on some of the images that stand; all of it, on all of them, where that broke one."""
    before, most = "", effort.tried
    for queries in dict.fromkeys((effort.probe, effort.queries)):
        label = f"{name}, {queries:,} queries"
        yield Step(label, part, (*words, f"threat.queries={queries}"), adaptive=adaptive, after=before, most=most)
        before, most = label, None


def _score(subject: Subject, effort: Level) -> Iterator[Step]:
    square = ("attack=square", f"threat.queries={effort.queries}")  # the other number that papers print
    yield Step(f"Square, {effort.queries:,} queries", "score", square, usual=True, everyone=True)
    if subject.stochastic:
        words = ("attack=square", "queries_per_image=5", "acceptance_z=1")
        yield from _second_opinion("Square averaged over 5", "score", words, effort)
    if subject.refuses and subject.norm == "linf":
        words = ("attack=oars", f"threat.queries={effort.queries}")
        yield Step(f"OARS, {effort.queries:,} queries", "score", words, adaptive=True)
    yield from _second_opinion("SignHunter", "score", ("attack=signhunter",), effort)
    for sibling, what in (("companions", "a batch of one"), ("copies", "the attacker's own batch")):
        if subject.coupled and sibling in subject.siblings:
            chosen = (f"defense={subject.defense}_{sibling}", "attack=square")
            yield from _second_opinion(f"Square, {what}", "score", chosen, effort)


def _label(subject: Subject, effort: Level) -> Iterator[Step]:
    if subject.norm == "linf":
        yield from _second_opinion("RayS", "label", ("attack=rays",), effort)
    n = 200 if subject.starts == "train" else min(200, subject.samples)
    words = ("attack=hopskipjump", f"+attack.needs.starts={{split: {subject.starts}, n: {n}}}")
    yield from _second_opinion("HopSkipJump", "label", words, effort)


def _sanity(subject: Subject, effort: Level) -> Iterator[Step]:
    """The best gradient, with momentum, on every image at half the threat's eps, at that, at twice that, and at a huge one, where
    nothing may stand; and with four times the steps, which may break few more. What breaks outside the threat says something of
    the attack alone."""
    gradients = [each for each in _gradients(subject, effort) if "learned" not in each.name]
    if not gradients:
        return
    gradient, draws = gradients[0 if subject.true_gradient else -1], effort.draws[0] if subject.stochastic else 1
    adaptive = bool(gradient.name) or subject.stochastic
    name = gradient.name + (f", EOT {draws}" if subject.stochastic else "")
    words = (*_pgd(subject, effort.steps, "margin"), "attack.momentum=1.0", *gradient.words(draws))  # a cell of its own
    half, same, twice, huge = (
        f"momentum PGD-{effort.steps} margin{name} at {eps} eps" for eps in ("half the", "the", "twice the", "a huge")
    )
    shared = {"everyone": True, "first": effort.checked}
    yield Step(half, "sanity", (*words, f"threat.eps={subject.eps / 2}"), adaptive=adaptive, **shared)
    yield Step(same, "sanity", words, adaptive=adaptive, beside=half, **shared)
    if subject.norm != "linf" or subject.eps <= Fraction(1, 2):
        yield Step(twice, "sanity", (*words, f"threat.eps={subject.eps * 2}"), counts=False, beside=same, **shared)
    largest = "threat.eps=1/2" if subject.norm == "linf" else "threat.eps=20"
    yield Step(huge, "sanity", (*words, largest), counts=False, **shared)
    more = (*_pgd(subject, 4 * effort.steps, "margin"), *gradient.words(draws))
    name = f"PGD-{4 * effort.steps} margin{name}, four times the steps"
    yield Step(name, "sanity", more, first=effort.checked, adaptive=adaptive)


def _controls(subject: Subject, effort: Level) -> Iterator[Step]:
    """What is no defence, under the attack that a usual evaluation prints."""
    square = ("attack=square", f"threat.queries={effort.queries}")
    shared = {"everyone": True, "counts": False, "first": effort.checked}
    if "noise" in subject.siblings:
        words = (f"defense={subject.defense}_noise", *square)
        yield Step("the noise alone, without the defence, under Square", "control", words, **shared)
    if not subject.bare and subject.logit_difference > 0:
        std = subject.logit_difference / math.sqrt(subject.classes)
        words = ("defense=logit_noise", f"defense.std={std:.3g}", *square)
        yield Step("logits that move as far by chance, under Square", "control", words, **shared)
