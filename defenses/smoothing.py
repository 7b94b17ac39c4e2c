"""Randomised smoothing (Cohen et al. 2019, "Certified Adversarial Robustness via Randomized Smoothing"): the vote of the network
under Gaussian noise. What it certifies of clean images: the metric `certified_acc`."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw, mix, normal
from defenses.base import Defense, Traits


class Smoothing(Defense):
    """sigma: standard deviation of the noise on the [0, 1] pixel scale, which is not clipped, as in the paper. draws: votes of
    one answer. Its logits are log((votes + 1) / (draws + classes)): the label is the vote's, and votes can be read out of them.

    mean_softmax: BPDA by the logarithm of the mean softmax under the same noise (Salman et al. 2019, section 2.2).
    Raises BenchError for a sigma that is not positive and for no draw."""

    kinds = ("mean_softmax",)
    traits = Traits(stochastic=True, differentiable=False)

    def __init__(self, model: nn.Module, sigma: float, draws: int, version: int = 1) -> None:
        super().__init__(model, version)
        if sigma <= 0 or draws < 1:
            raise BenchError(f"defense.sigma={sigma} must be positive and defense.draws={draws} at least 1")
        self.sigma, self.draws = sigma, draws

    @torch.no_grad()
    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        votes: Tensor | None = None
        for logits in self._answers(x, draw):
            one = torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
            votes = one if votes is None else votes + one
        assert votes is not None
        return ((votes + 1) / (self.draws + votes.shape[1])).log()

    def approximate(self, x: Tensor, draw: Draw, kind: str) -> Tensor:
        """The value is that of `forward`, the gradient that of the mean softmax."""
        soft = torch.stack([logits.softmax(1) for logits in self._answers(x, draw)]).mean(0).clamp_min(1e-12).log()
        with torch.no_grad():
            votes = self(x.detach(), draw)
        self.model.ledger.inner += len(x)
        return soft + (votes - soft).detach()

    def _answers(self, x: Tensor, draw: Draw) -> Iterator[Tensor]:
        self.model.ledger.inner += len(x) * (self.draws - 1)
        key = draw.key()
        for nth in range(self.draws):
            yield self.model(x + self.sigma * normal(mix(key, torch.full_like(key, nth)), *x.shape[1:]))
