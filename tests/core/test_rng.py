"""The hash generator: statistics against scipy, independence of streams, and golden values that must never change."""

import torch
from scipy import stats

from bench.core import rng
from bench.core.rng import Draw, Stream


def rows(n: int = 200, stream: Stream = Stream.ATTACK, seed: int = 0) -> torch.Tensor:
    return rng.keys(seed, stream, torch.arange(n))


def test_uniform_and_normal_pass_a_kolmogorov_smirnov_test() -> None:
    assert stats.kstest(rng.uniform(rows(), 500).flatten().numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(rng.normal(rows(), 501).flatten().numpy(), "norm").pvalue > 1e-3


def test_banked_and_coarse_numbers_pass_it_too() -> None:
    assert stats.kstest(rng.banked_normal(rows(), 501).flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(rng.coarse_uniform(rows(), 501).flatten().numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(rng.banked_uniform(rows(), 501).flatten().numpy(), "uniform").pvalue > 1e-3


def test_a_banked_row_does_not_depend_on_its_neighbours() -> None:
    whole = rng.banked_normal(rows(20), 3, 50)
    assert torch.equal(rng.banked_normal(rows(20)[7:9], 3, 50), whole[7:9])
    assert (torch.corrcoef(whole.flatten(1)) - torch.eye(20)).abs().max() < 6 / 150**0.5


def test_integers_and_signs_are_even() -> None:
    words = rng.bits(rows(), 500)
    counts = torch.bincount(rng.integers(words, 7).flatten(), minlength=7)
    assert len(counts) == 7 and stats.chisquare(counts.numpy()).pvalue > 1e-3
    heads = (rng.signs(words[:, 0], 63) > 0).sum()
    assert stats.binomtest(int(heads), 200 * 63).pvalue > 1e-3
    per_row = rng.integers(words[:5], torch.tensor([1, 2, 3, 4, 5])[:, None])
    assert (per_row.amax(1) == torch.arange(5)).all() and (per_row.amin(1) == 0).all()


def test_rows_streams_seeds_and_draws_are_uncorrelated() -> None:
    n = torch.arange(50)
    columns = [
        rng.normal(Draw(seed, n, torch.full_like(n, nth), stream).key(), 400).flatten()
        for seed, nth, stream in [
            (0, 0, Stream.DEFENCE),
            (1, 0, Stream.DEFENCE),
            (0, 1, Stream.DEFENCE),
            (0, 0, Stream.CLEAN),
        ]
    ]
    table = torch.corrcoef(torch.stack(columns)) - torch.eye(4)
    assert table.abs().max() < 5 / 20_000**0.5
    between_rows = torch.corrcoef(rng.normal(rows(), 2000)) - torch.eye(200)
    assert between_rows.abs().max() < 6 / 2000**0.5


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    whole = rng.normal(rows(20), 3, 5)
    assert torch.equal(rng.normal(rows(20)[7:9], 3, 5), whole[7:9])


def test_golden_values() -> None:
    """A change here changes every record: raise the version of every attack and stochastic defence."""
    assert rng.keys(0, Stream.ATTACK, torch.tensor([0, 1])).tolist() == GOLDEN_KEYS
    assert rng.bits(torch.tensor([1]), 2).tolist() == GOLDEN_BITS
    assert rng.uniform(torch.tensor([1]), 2)[0].tolist() == GOLDEN_UNIFORM


def slow(z: int) -> int:
    """splitmix64's finaliser on Python integers."""
    mask = (1 << 64) - 1
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_bits_are_splitmix64() -> None:
    mask = (1 << 64) - 1
    ours = [word & mask for word in rng.bits(torch.tensor([12345]), 4)[0].tolist()]
    assert ours == [slow((12345 + i * 0x9E3779B97F4A7C15) & mask) for i in range(1, 5)]


GOLDEN_KEYS = [-7741005862522800391, -6045484230750537336]
GOLDEN_BITS = [[-7995527694508729151, -4689498862643123097]]
GOLDEN_UNIFORM = [0.5665615200996399, 0.7457817196846008]
