"""SimBA, SignHunter, NES and Bandits for one image, straight from the papers' pseudo-code, in numpy and without our code.

Each takes `logits_of` (image -> (K,)), the image (C,H,W), its label, a seed, and returns (fooled, queries drawn).
"""

import math

import numpy as np
import torch


class Stop(Exception):
    """The budget is spent or the attack has won."""


class Asker:
    """Counts queries; ends the attack at a fooling candidate in the ball, or when the budget is spent."""

    def __init__(self, logits_of, y: int, budget: int) -> None:
        self.logits_of, self.y, self.budget, self.asked, self.won = logits_of, y, budget, 0, False

    def log_p(self, image: np.ndarray, candidate: bool = True) -> float:
        if self.asked == self.budget:
            raise Stop
        self.asked += 1
        logits = self.logits_of(torch.from_numpy(image).float()).double().numpy()
        if candidate and logits.argmax() != self.y:
            self.won = True
            raise Stop
        return float(logits[self.y] - logits.max() - math.log(np.exp(logits - logits.max()).sum()))


def play(attack, logits_of, x, y, seed, *, budget, **settings) -> tuple[bool, int]:
    asker = Asker(logits_of, y, budget)
    try:
        attack(asker, x.double().numpy(), np.random.default_rng(seed), **settings)
    except Stop:
        return asker.won, asker.asked
    raise AssertionError("an attack ends by its budget")


def inside(x: np.ndarray, image: np.ndarray, eps: float, norm: str) -> np.ndarray:
    delta = image - x
    if norm == "linf":
        delta = np.clip(delta, -eps, eps)
    elif np.linalg.norm(delta) > eps:
        delta = delta * eps / np.linalg.norm(delta)
    return np.clip(x + delta, 0, 1)


def simba(asker: Asker, x, random, *, eps, norm, step, basis, freq_dims=None) -> None:
    """Algorithm 1 with an orthonormal basis Q, in random order without replacement."""
    channels, height, width = x.shape
    places = [(c, i, j) for c in range(channels) for i in range(freq_dims or height) for j in range(freq_dims or width)]
    delta, low = np.zeros_like(x), asker.log_p(x)
    order = random.permutation(len(places))
    for k in range(10**9):
        c, i, j = places[order[k % len(order)]]
        q = np.zeros_like(x)
        q[c] = np.outer(dct_row(i, height), dct_row(j, width)) if basis == "dct" else 0
        if basis == "pixel":
            q[c, i, j] = 1
        for sign in (-1, 1):
            p = asker.log_p(inside(x, x + delta + sign * step * q, eps, norm))
            if p < low:
                delta, low = delta + sign * step * q, p
                break


def dct_row(frequency: int, n: int) -> np.ndarray:
    scale = math.sqrt((1 if frequency == 0 else 2) / n)
    return np.array([scale * math.cos(math.pi * frequency * (2 * k + 1) / (2 * n)) for k in range(n)])


def signhunter(asker: Asker, x, random, *, eps, norm) -> None:
    """Algorithms 1 and 2: init at all +1, flip chunk after chunk, move the pivot when all are done."""
    d = x.size
    size = eps if norm == "linf" else eps / math.sqrt(d)
    pivot = x
    while True:
        signs = np.ones(d)
        best = asker.log_p(inside(x, pivot + size * signs.reshape(x.shape), eps, norm))
        for level in range(math.ceil(math.log2(d)) + 1):
            chunk = math.ceil(d / 2**level)
            for start in range(0, d, chunk):
                trial = signs.copy()
                trial[start : start + chunk] *= -1
                loss = asker.log_p(inside(x, pivot + size * trial.reshape(x.shape), eps, norm))
                if loss < best:
                    signs, best = trial, loss
        pivot = inside(x, pivot + size * signs.reshape(x.shape), eps, norm)


def nes(asker: Asker, x, random, *, eps, norm, pairs, sigma, lr) -> None:
    """The antithetic estimate of section 2.1 and projected steps."""
    current = x
    while True:
        slope = np.zeros_like(x)
        for _ in range(pairs):
            u = random.standard_normal(x.shape)
            above = asker.log_p(np.clip(current + sigma * u, 0, 1), candidate=False)
            below = asker.log_p(np.clip(current - sigma * u, 0, 1), candidate=False)
            slope += (above - below) * u / (2 * sigma * pairs)
        step = np.sign(slope) if norm == "linf" else slope / max(np.linalg.norm(slope), 1e-12)
        current = inside(x, current - lr * step, eps, norm)
        asker.log_p(current)


def bandits(asker: Asker, x, random, *, eps, norm, fd_eta, image_lr, online_lr, exploration, tile, time_prior) -> None:
    """Algorithms 1-3; the loss that is raised is -log p, the prior of linf is kept by exponentiated gradients."""
    channels, height, width = x.shape
    shape = (channels, tile or height, tile or width)
    prior, current = np.zeros(shape), x
    rows, columns = (np.arange(n) * size // n for n, size in ((height, shape[1]), (width, shape[2])))

    def large(v):
        return v[:, rows][:, :, columns]

    while True:
        u = exploration * random.standard_normal(shape) / math.sqrt(np.prod(shape))
        losses = []
        for q in (large(prior + u), large(prior - u)):
            probe = np.clip(current + fd_eta * q / np.linalg.norm(q), 0, 1)
            losses.append(-asker.log_p(probe, candidate=False))
        g = (losses[0] - losses[1]) / (fd_eta * exploration) * u
        if norm == "linf":
            p = (prior + 1) / 2
            up, down = p * np.exp(online_lr * g), (1 - p) * np.exp(-online_lr * g)
            prior = 2 * up / (up + down) - 1
        else:
            prior = prior + online_lr * g
        step = large(prior)
        step = np.sign(step) if norm == "linf" else step / np.linalg.norm(step)
        current = inside(x, current + image_lr * step, eps, norm)
        if not time_prior:
            prior = np.zeros(shape)
        asker.log_p(current)
