"""Numbers of one cell under attack."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bench.report.metrics.base import Found, Metric, Place
from bench.report.records import Attacked, CleanPass, Records
from bench.report.values import Value, mean, median, share_of


@dataclass(frozen=True, kw_only=True)
class OfAttack(Metric):
    """A function of the attacked images alone."""

    compute: Callable[[Attacked], Value]
    takes: ClassVar[frozenset[str]] = frozenset({"at"})

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        return self.compute(found[0].attacked(records))


@dataclass(frozen=True)
class CleanTimesSurvival(Metric):
    """The UniG paper's own way (sheet, 9.1): clean accuracy on all images x the share of attacked ones that survive."""

    takes: ClassVar[frozenset[str]] = frozenset({"at"})

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        attacked = found[0].attacked(records)
        return clean_times_survival(attacked, records.whole_clean_pass(found[0].cell))


def clean_times_survival(attacked: Attacked, clean: CleanPass) -> Value:
    """`clean`: the clean pass on all images that it has, maybe more than were attacked."""
    left, scale = survival(attacked), float(np.mean(clean.clean))
    return Value(left.value * scale, left.n, left.low * scale, left.high * scale)


def robust_acc(attacked: Attacked) -> Value:
    """Correctly classified and not fooled within the budget, out of all images (first hit, never re-evaluated) on which the
    attack began at all."""
    return share_of(attacked.robust[~attacked.unstarted])


def acc_all(attacked: Attacked) -> Value:
    """Right on the attacker's image, whether or not correctly classified, out of all images (disjoint paper, sheet 6)."""
    return share_of(attacked.right_now)


def clean_acc_draws(attacked: Attacked) -> Value:
    """Of attack=redrawn: the mean over a random victim's draws of its clean accuracy; the interval is over images."""
    return mean(100 * (1 - _wrong_draws(attacked)))


def clean_acc_every_draw(attacked: Attacked) -> Value:
    """Of attack=redrawn: images that are right in every draw."""
    return share_of(_wrong_draws(attacked) == 0)


def _wrong_draws(attacked: Attacked) -> np.ndarray:
    """(N,) the share of an image's draws that are wrong; a victim that draws nothing has the one output."""
    share = attacked.re_evaluation_success
    return np.where(np.isnan(share), ~attacked.right_now, share)


def robust_acc_re_evaluated(attacked: Attacked) -> Value:
    """As robust_acc, but an image counts as broken if the found example fools in most of its re-evaluations."""
    return share_of(attacked.robust_re_evaluated[~attacked.unstarted])


def re_evaluation_success(attacked: Attacked) -> Value:
    """Mean share of re-evaluations in which a found image still fools, in percent; 100 for a deterministic victim."""
    still = attacked.re_evaluation_success[attacked.fooled]
    found = mean(100 * np.where(np.isnan(still), 1.0, still))
    return Value(found.value, found.n, max(found.low, 0.0), min(found.high, 100.0))


def survival(attacked: Attacked) -> Value:
    """The GCM paper's AR: still right under attack, of those correctly classified."""
    return share_of(~attacked.fooled[attacked.clean & ~attacked.unstarted])


def mean_queries_success(attacked: Attacked) -> Value:
    found = mean(attacked.queries[attacked.fooled])
    return replace(found, low=max(found.low, 1.0))  # no attack succeeds before its first query


def median_queries_success(attacked: Attacked) -> Value:
    return median(attacked.queries[attacked.fooled])


def detected(attacked: Attacked) -> Value:
    """Of the images under attack, those of which a stateful defence refused a query."""
    return share_of(~np.isnan(attacked.first_refused)[attacked.clean])


def queries_until_detected(attacked: Attacked) -> Value:
    """Median number of the first query that was refused, of the images of which one was."""
    return median(attacked.first_refused[~np.isnan(attacked.first_refused)])


def mean_passes(attacked: Attacked) -> Value:
    """Forward passes that a white-box attacker spent on an attacked image."""
    return mean(attacked.passes_fwd[~np.isnan(attacked.passes_fwd)])


def mean_linf(attacked: Attacked) -> Value:
    """Over all images that were sent, found or not."""
    return mean(attacked.linf[~np.isnan(attacked.linf)])


def median_distance(norm: str) -> Callable[[Attacked], Value]:
    """Of the examples found, inside the ball or not."""
    return lambda attacked: median(getattr(attacked, norm)[attacked.margin < 0])
