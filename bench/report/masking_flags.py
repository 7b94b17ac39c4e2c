"""What makes a robust accuracy hard to believe: signs of masked gradients, from the records of a row's cells. Imports no torch.

A column of a table:

  {name: flags, metric: flags, of: {white_box: [columns], adaptive: [...], black_box: [...], transfer: [...],
   weaker_first: [[...], ...], huge_eps: [...], restarts: [one, many], steps: [few, many]}}

adaptive: white-box columns that go around the defence (BPDA, EOT); white_box: those that don't. Accuracies are compared on the
images that the columns have in common. Every list may be left out; a row's `without` columns are skipped. The signs are those of
Athalye et al. 2018 (section 3.1) and Carlini et al. 2019 (section 3): whatever they point at, the headline is the row's worst
case over all cells.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from bench.report.records import Attacked, on_common_images
from bench.report.table_specs import FlagGroups
from bench.report.values import NAN, Value, share_of

ZERO = 0.5  # share of zero entries above which gradients count as gone
SLACK = 1.0  # points of robust accuracy that are no contradiction
STANDING = 5.0  # percent that may stand at a huge eps


def flags(of: FlagGroups, attacks: Mapping[str, Attacked]) -> Value:
    """The value is how many signs there are, `shown` names them. attacks: column name -> its cell in this row."""
    found = [*_gradients([attacks[name] for name in (*of.white_box, *of.adaptive)]), *_contradictions(of, attacks)]
    n = max((len(attacks[name].sample) for name in of.white_box), default=0)
    return Value(len(found), n, NAN, NAN, "; ".join(found) or "none")


def _contradictions(of: FlagGroups, attacks: Mapping[str, Attacked]) -> Iterator[str]:
    """Attacks whose order of strength is not what true gradients would give."""
    white_box = (*of.white_box, *of.adaptive)
    for what, known, others in (
        ("adaptive", of.white_box, of.adaptive),
        ("black-box", white_box, of.black_box),
        ("transfer", white_box, of.transfer),
    ):
        if known and others:
            left = _compared([attacks[name] for name in (*known, *others)])
            yield from _beaten(what, min(left[: len(known)]), min(left[len(known) :]))
    for before, after in (pair for chain in of.weaker_first for pair in pairwise(chain)):
        yield from _weaker(before, after, *_compared([attacks[before], attacks[after]]))
    for name in of.huge_eps:
        if (left_standing := robust(attacks[name])) > STANDING:
            yield f"{left_standing:.1f} stand at {name}"
    for what, pair in (("restarts add", of.restarts), ("more steps add", of.steps)):
        if len(pair) > 1:
            one, more = _compared([attacks[name] for name in pair[:2]])
            if more < one - SLACK:
                yield f"{what} ({one:.1f} -> {more:.1f})"


def of_numbers(of: FlagGroups, left: Mapping[str, float]) -> Iterator[str]:
    """The contradictions between numbers of many cells each. left: column name -> robust accuracy in percent."""
    for what, others in (("black-box", of.black_box), ("transfer", of.transfer)):
        if of.white_box and others:
            yield from _beaten(what, min(left[name] for name in of.white_box), min(left[name] for name in others))
    for before, after in (pair for chain in of.weaker_first for pair in pairwise(chain)):
        yield from _weaker(before, after, left[before], left[after])


def _beaten(what: str, strongest: float, best: float) -> Iterator[str]:
    if best < strongest - SLACK:
        yield f"{what} beats white-box ({best:.1f} < {strongest:.1f})"


def _weaker(before: str, after: str, first: float, then: float) -> Iterator[str]:
    if then > first + SLACK:
        yield f"{after} is weaker than {before} ({then:.1f} > {first:.1f})"


def _compared(attacks: Sequence[Attacked]) -> list[float]:
    """Robust accuracy of each, on the images that all of them have."""
    return [robust(each) for each in on_common_images(attacks)]


def robust(attacked: Attacked) -> float:
    """Percent of all images."""
    return share_of(attacked.robust).value


def _gradients(attacks: Sequence[Attacked]) -> Iterator[str]:
    """Zero and non-finite gradients among the white-box cells' images that got a gradient at all."""
    zero = [float(each.mean()) for each in _known(attack.grad_zero for attack in attacks)]
    if zero and max(zero) > ZERO:
        yield f"zero gradients ({max(zero):.0%} of entries)"
    broken = [float(np.mean(each > 0)) for each in _known(attack.grad_nonfinite for attack in attacks)]
    if broken and max(broken) > 0:
        yield f"non-finite gradients ({max(broken):.0%} of images)"


def _known(columns: Iterator[np.ndarray]) -> list[np.ndarray]:
    return [some for column in columns if len(some := column[~np.isnan(column)])]
