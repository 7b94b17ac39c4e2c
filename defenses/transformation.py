"""Adversarial transformation f_a(g(x)): g drives the image towards the class that a small network f_b finds least likely, and
f_a, trained on such images, classifies the result ("One Man's Trash is Another Man's Treasure", section 3, equations 2 and 3).

Where paper and public code differ we follow the paper: least-likely class of the raw image, step delta/6, a random start that
works, g(x) not clipped to [0, 1]. `inner: untargeted` is the code's notebook (ascent from f_b's own prediction).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw, uniform
from defenses.base import Defense, Traits

Inner = Literal["least_likely", "untargeted"]


@dataclass(frozen=True)
class Transform:
    """g's settings. delta: the ball's radius on the [0, 1] pixel scale; step: as a share of delta.
    Raises BenchError for settings that make no sense."""

    delta: float
    steps: int
    step: float
    inner: Inner
    clip: bool

    def __post_init__(self) -> None:
        if self.inner not in ("least_likely", "untargeted"):
            raise BenchError(f"inner={self.inner}: it is least_likely or untargeted")
        if not 0 < self.delta <= 1 or self.steps < 1 or self.step <= 0:
            raise BenchError(
                f"delta={self.delta} must lie in (0, 1] (0.2, not 51), steps={self.steps} be at least 1, step={self.step} above 0"
            )

    def __call__(self, f_b: Any, x: Tensor, start: Tensor, kind: str = "exact") -> Tensor:
        """x (B,C,H,W), start (B,C,H,W) in [-delta, delta] -> g(x), outside [0, 1] unless `clip`.

        kind exact: no gradient to x. softsign, tanh: sign and projection have the derivatives of section 4.1 (equation 5), so
        that autograd goes through all steps where it is asked to; the values are the same.
        """
        unroll = kind != "exact" and x.requires_grad and torch.is_grad_enabled()
        with torch.set_grad_enabled(unroll):
            logits = f_b(x)
            aim = logits.argmin(1) if self.inner == "least_likely" else logits.argmax(1)
        way = 1.0 if self.inner == "least_likely" else -1.0
        current = x + start
        for _ in range(self.steps):
            with torch.enable_grad():
                leaf = current if unroll else current.detach().requires_grad_()
                # a view: torch's FLOP counter can't hook a leaf that enters a module
                loss = F.cross_entropy(f_b(leaf.view_as(leaf)), aim, reduction="sum")
                (slope,) = torch.autograd.grad(loss, leaf, create_graph=unroll)
                moved = leaf - way * self.step * self.delta * _sign(slope, kind)
                current = x + _clip(moved - x, self.delta, kind)
        out = current.clamp(0, 1) if self.clip else current
        return out if unroll else out.detach()


def _sign(slope: Tensor, kind: str) -> Tensor:
    if kind == "exact":
        return slope.sign()
    soft = torch.tanh(slope) if kind == "tanh" else slope / (1 + slope.abs())
    return soft + (slope.sign() - soft).detach()


def _clip(gap: Tensor, delta: float, kind: str) -> Tensor:
    if kind == "exact":
        return gap.clamp(-delta, delta)
    inside = gap.abs() < delta
    leak = gap * torch.where(inside, 1.0, (1 + gap.abs()).pow(-2)).detach()
    return leak + (gap.clamp(-delta, delta) - leak).detach()


class Transformation(Defense):
    """model is f_a. f_b: a network of its own, frozen; its passes are counted as `inner` rows."""

    kinds = ("identity", "softsign", "tanh")

    def __init__(
        self,
        model: nn.Module,
        f_b: nn.Module,
        delta: float,
        steps: int,
        step: float,
        inner: Inner,
        clip: bool,
        random_start: bool,
        needs: Mapping[str, Any] | None = None,
        version: int = 1,
    ) -> None:
        super().__init__(model, version)
        self.f_b, self.random_start = f_b, random_start
        self.transform = Transform(delta, steps, step, inner, clip)
        self.traits = Traits(stochastic=random_start, differentiable=False)

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self.model(self.moved(x.detach(), draw, "exact"))

    def approximate(self, x: Tensor, draw: Draw, kind: str) -> Tensor:
        """identity (the paper's BPDA-I): f_a's gradient at g(x), as if g were the identity. softsign, tanh: through all steps."""
        if kind == "identity":
            return self.model(x + (self.moved(x.detach(), draw, "exact") - x).detach())
        return self.model(self.moved(x, draw, kind))

    def moved(self, x: Tensor, draw: Draw, kind: str) -> Tensor:
        """g(x) (B,C,H,W) for one draw of the random start."""
        start = torch.zeros_like(x)
        if self.random_start:
            start = (uniform(draw.key(), *x.shape[1:]) * 2 - 1) * self.transform.delta
        self.model.ledger.inner += len(x) * (self.transform.steps + 1)
        return self.transform(self.f_b, x, start, kind)

    def added_parameters(self) -> int:
        return sum(p.numel() for p in self.f_b.parameters())
