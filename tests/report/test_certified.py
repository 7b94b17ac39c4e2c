"""Certificates of randomised smoothing: by hand where all votes agree, and never more than the truth allows."""

import numpy as np
import pytest
from scipy.stats import norm

from bench.report.metrics.certified import ALPHA, certified_radius


def logits(votes: np.ndarray) -> np.ndarray:
    """As `defenses.smoothing.Smoothing` writes them."""
    return np.log((votes + 1) / (votes.sum(1, keepdims=True) + votes.shape[1])).astype(np.float32)


def test_unanimous_votes_certify_what_cohen_et_al_say() -> None:
    found = certified_radius(logits(np.array([[100, 0, 0], [0, 100, 0]])), 100, 0.5)
    assert found == pytest.approx(0.5 * norm.ppf((ALPHA / 3) ** (1 / 100)))


def test_no_majority_certifies_nothing_and_more_votes_certify_more() -> None:
    assert certified_radius(logits(np.array([[40, 35, 25], [50, 50, 0]])), 100, 0.5).tolist() == [0, 0]
    few, many = (certified_radius(logits(np.array([[9 * n, n]])), 10 * n, 1.0)[0] for n in (10, 1000))
    assert 0 < few < many < norm.ppf(0.9)


def test_a_bound_is_broken_as_seldom_as_it_says() -> None:
    """A class that truly gets 70% of the votes: its radius is at most the true one but for one in a thousand."""
    votes = np.random.default_rng(0).binomial(200, 0.7, size=20_000)
    found = certified_radius(logits(np.stack([votes, 200 - votes], 1)), 200, 1.0)
    assert np.mean(found > norm.ppf(0.7)) <= ALPHA
    assert found.mean() > 0.3 * norm.ppf(0.7)
