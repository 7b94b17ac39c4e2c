"""Random numbers as a function of (key, draw number): counter-based, by integer hashing on the device.

A generator per batch would make a sample's record depend on its neighbours, on the order and on restarts. Here every row
carries its own int64 key, and its numbers depend on nothing else. The hash is splitmix64's finaliser (Steele et al. 2014).
"""

from enum import IntEnum
from functools import cache
from math import pi, prod
from typing import NamedTuple

import torch
from torch import Tensor

GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64: splitmix64's increment
FACTOR_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
FACTOR_2 = -7723592293110705685  # 0x94D049BB133111EB


class Stream(IntEnum):
    """What a random number is for; two streams never share a draw."""

    ATTACK = 1
    DEFENCE = 2
    CLEAN = 3
    RE_EVALUATION = 4
    EOT = 5
    TARGET = 6
    JUDGE = 7
    MEMBER = 8


class Draw(NamedTuple):
    """The only noise handle that a defence gets: the `nth` answer to each sample in one stream."""

    seed: int
    sample: Tensor  # (B,) int64, stable sample numbers
    nth: Tensor  # (B,) int64
    stream: Stream

    def key(self) -> Tensor:
        """(B,) int64, one key a row."""
        return mix(self.sample, self.nth, seed=_word(self.seed, int(self.stream)))

    def rows(self, index: Tensor | slice) -> "Draw":
        return self._replace(sample=self.sample[index], nth=self.nth[index])


def _scramble_(z: Tensor) -> Tensor:
    """splitmix64's finaliser, in place; `>>` is arithmetic on int64, so the copied sign bits are masked off."""
    z ^= (z >> 30) & ((1 << 34) - 1)
    z *= FACTOR_1
    z ^= (z >> 27) & ((1 << 37) - 1)
    z *= FACTOR_2
    z ^= (z >> 31) & ((1 << 33) - 1)
    return z


def _signed(word: int) -> int:
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word


def _word(*numbers: int) -> int:
    """The same hash on Python integers, for seeds."""
    mask, state = (1 << 64) - 1, 0
    for number in numbers:
        z = (state + number + GOLDEN) & mask
        z = ((z ^ (z >> 30)) * FACTOR_1) & mask
        z = ((z ^ (z >> 27)) * FACTOR_2) & mask
        state = z ^ (z >> 31)
    return _signed(state)


def mix(*words: Tensor, seed: int = 0) -> Tensor:
    """(B,) int64 keys from any number of (B,) int64 words, order matters."""
    first, *rest = words
    return onward(_scramble_(first + _signed(seed + GOLDEN)), *rest)


def onward(state: Tensor, *words: Tensor) -> Tensor:
    """`mix` of more words, where `state` (B,) is that of the words before them: mix(a, b) = onward(mix(a), b)."""
    for word in words:
        state = _scramble_(state + word + GOLDEN)
    return state


def keys(seed: int, stream: Stream, *words: Tensor) -> Tensor:
    """(B,) int64: the keys of one stream, one for each row of `words`."""
    return mix(*words, seed=_word(seed, int(stream)))


def bits(key: Tensor, n: int) -> Tensor:
    """(B, n) int64 of 64 random bits each."""
    counter = torch.arange(1, n + 1, device=key.device, dtype=torch.int64) * GOLDEN
    return _scramble_(key[:, None] + counter)


def uniform(key: Tensor, *shape: int) -> Tensor:
    """(B, *shape) float32 in [0, 1), 24 bits."""
    high = (bits(key, prod(shape)) >> 40) & 0xFFFFFF
    return high.float().mul_(2.0**-24).view(-1, *shape)


def normal(key: Tensor, *shape: int) -> Tensor:
    """(B, *shape) float32, standard normal by Box and Muller: one hash makes two numbers, |z| < 5.8."""
    n = prod(shape)
    word = bits(key, (n + 1) // 2)
    radius = ((word >> 40) & 0xFFFFFF).float().add_(1.0).mul_(2.0**-24).log_().mul_(-2.0).sqrt_()
    angle = ((word >> 16) & 0xFFFFFF).float().mul_(2.0**-24 * 2 * pi)
    both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return both[:, :n].reshape(-1, *shape)


CHUNK, CHUNKS = 64, 2**16  # of a bank: four million numbers, the same everywhere


@cache
def _normals(device: torch.device) -> Tensor:
    return normal(torch.arange(CHUNKS), CHUNK).to(device)


@cache
def _uniforms(device: torch.device) -> Tensor:
    return uniform(torch.arange(CHUNKS), CHUNK).to(device)


def _stretch(bank: Tensor, key: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(B, *shape) of a (CHUNKS, CHUNK) bank, from a place of each key's own."""
    n = prod(shape)
    start = integers(bits(key, 1), CHUNKS)
    index = (start + torch.arange(-(-n // CHUNK), device=key.device)) % CHUNKS
    return bank.index_select(0, index.flatten()).view(len(key), -1)[:, :n].reshape(-1, *shape)


def banked_normal(key: Tensor, *shape: int) -> Tensor:
    """(B, *shape) float32, standard normal, read from a fixed bank: ten times as fast as `normal`, for noise that fills an image
    at every answer. One key in 65,536 reads what another one did."""
    return _stretch(_normals(key.device), key, shape)


def banked_uniform(key: Tensor, *shape: int) -> Tensor:
    """(B, *shape) float32 in [0, 1), 24 bits, likewise."""
    return _stretch(_uniforms(key.device), key, shape)


def coarse_uniform(key: Tensor, *shape: int) -> Tensor:
    """(B, *shape) float32 in (0, 1), 16 bits: a word makes four numbers, a quarter of the cost of `uniform`."""
    n = prod(shape)
    quarter = bits(key, -(-n // 4)).view(torch.int16)[:, :n]
    return quarter.float().add_(2.0**15 + 0.5).mul_(2.0**-16).reshape(-1, *shape)


def integers(word: Tensor, n: Tensor | int) -> Tensor:
    """Integers in 0..n-1 from words of `bits`, by the high 31 bits; `n` < 2**31 broadcasts against `word`."""
    return (((word >> 33) & 0x7FFFFFFF) * n) >> 31


def signs(word: Tensor, n: int) -> Tensor:
    """(B, n) float32 of -1 and +1 from one word (B,) each: its bits 0..n-1, so n <= 63."""
    shifts = torch.arange(n, device=word.device)
    return ((word[:, None] >> shifts) & 1).float().mul_(2.0).sub_(1.0)
