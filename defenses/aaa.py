"""AAA-linear: logits after-treated so that the margin that an attacker reads rises where the true one falls (Chen et al. 2022,
"Adversarial Attack on Attackers: Post-Process to Mitigate Black-Box Score-Based Query Attacks", section 3.3).

The margin of the predicted class is cut into intervals of width `tau`; within each, its trend is reversed around the middle
(slope -alpha). The shown logits are found by `steps` Adam steps from the true ones, which also hold the confidence of the
temperature-scaled logits (weight `beta`). The predicted class stays. One image's answer depends on no other.
"""

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw
from defenses.base import Defense, Traits

BETA_1, BETA_2, TINY = 0.9, 0.999, 1e-8  # Adam's


class Aaa(Defense):
    traits = Traits(differentiable=False)

    def __init__(
        self,
        model: nn.Module,
        tau: float,
        alpha: float,
        beta: float,
        temperature: float,
        steps: int,
        lr: float,
        version: int = 1,
    ) -> None:
        super().__init__(model, version)
        if min(tau, temperature, lr) <= 0 or min(alpha, beta) < 0 or steps < 1:
            raise BenchError(
                f"defense.tau={tau}, temperature={temperature} and lr={lr} must be positive, alpha={alpha} and beta={beta} "
                f"at least 0, steps={steps} at least 1"
            )
        self.tau, self.alpha, self.beta = tau, alpha, beta
        self.temperature, self.steps, self.lr = temperature, steps, lr

    @torch.no_grad()
    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self.shown(self.model(x).double()).float()  # float64: an ulp of exp must not decide a sign of the loss

    def shown(self, logits: Tensor) -> Tensor:
        """(B,K) true logits -> (B,K) what the attacker sees."""
        label = logits.argmax(1, keepdim=True)
        wanted = self.wanted(_margin(logits, label))
        confidence = (logits / self.temperature).softmax(1).gather(1, label)[:, 0]
        z, first, second = logits.clone(), torch.zeros_like(logits), torch.zeros_like(logits)
        for t in range(1, self.steps + 1):
            slope = self._slope(z, label, wanted, confidence)
            first = BETA_1 * first + (1 - BETA_1) * slope
            second = BETA_2 * second + (1 - BETA_2) * slope.square()
            size = self.lr / (1 - BETA_1**t)
            z = z - size * first / ((second / (1 - BETA_2**t)).sqrt() + TINY)
        kept = z.argmax(1, keepdim=True) == label
        return torch.where(kept, z, logits)  # the paper's promise: no decision changes

    def wanted(self, margin: Tensor) -> Tensor:
        """(B,) the margin to show: within each interval, mirrored at its middle."""
        middle = ((margin / self.tau).floor() + 0.5) * self.tau
        return middle - self.alpha * (margin - middle)

    def _slope(self, z: Tensor, label: Tensor, wanted: Tensor, confidence: Tensor) -> Tensor:
        """(B,K): gradient of |margin(z) - wanted| + beta |p_label(z) - confidence|, closed form."""
        rival = z.scatter(1, label, -torch.inf).argmax(1, keepdim=True)
        side = (_margin(z, label) - wanted).sign()[:, None]
        slope = torch.zeros_like(z).scatter_(1, label, side).scatter_(1, rival, -side)
        p = z.softmax(1)
        own = p.gather(1, label)
        off = self.beta * (own[:, 0] - confidence).sign()[:, None] * own
        return slope + off * (torch.zeros_like(z).scatter_(1, label, 1.0) - p)


def _margin(z: Tensor, label: Tensor) -> Tensor:
    return z.gather(1, label)[:, 0] - z.scatter(1, label, -torch.inf).amax(1)
