"""What randomised smoothing certifies of clean images (Cohen et al. 2019, section 3.2.2), from the votes in its logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from statistics import NormalDist
from typing import ClassVar

import numpy as np

from bench.config.specs import CellSpec
from bench.core.errors import BenchError
from bench.report.metrics.base import Found, Metric, Place
from bench.report.records import Records
from bench.report.select import samples
from bench.report.values import Value, share_of

ALPHA = 1e-3  # the chance that a certificate is wrong, as in the paper


@dataclass(frozen=True)
class CertifiedAccuracy(Metric):
    """Right images that no perturbation within the threat's ball could turn, however it is found."""

    clean: ClassVar[bool] = True

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        cell = found[0].cell
        fields = cell.spec.defense.fields()
        if "sigma" not in fields or "draws" not in fields:
            raise BenchError(f"{place.label}: certified_acc is of defense=smoothing, whose logits hold votes")
        n = samples(cell)
        right = records.clean_pass(cell, n).clean
        radii = certified_radius(records.logits(cell, n)[1], int(fields["draws"]), float(fields["sigma"]))
        return share_of(right & (radii >= l2_radius(cell.spec, place.label)))


def certified_radius(logits: np.ndarray, draws: int, sigma: float) -> np.ndarray:
    """(N,K) logits of `Smoothing` -> (N,) l2 radii, 0 where nothing is certified. The votes both choose and prove the class, so
    the bound holds for all K classes at once."""
    from scipy.stats import beta  # loads in half a second; few tables need it

    classes = logits.shape[1]
    votes = np.rint(np.exp(logits.astype(np.float64)) * (draws + classes) - 1).max(1)
    least = beta.ppf(ALPHA / classes, votes, draws - votes + 1)  # Clopper and Pearson
    return np.array([sigma * NormalDist().inv_cdf(p) if p > 0.5 else 0.0 for p in least])


def l2_radius(spec: CellSpec, label: str) -> float:
    """Of the smallest l2 ball that holds the threat's."""
    threat = spec.threat
    if threat.norm not in ("l2", "linf"):
        raise BenchError(f"{label}: certified_acc knows threats in l2 and linf, not {threat.norm}")
    return threat.radius * (sqrt(prod(spec.dataset.shape)) if threat.norm == "linf" else 1)
