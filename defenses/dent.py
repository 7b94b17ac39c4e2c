"""DENT: at every forward the affine parameters of batch norm are fitted to the images at hand by minimising the entropy of their
predictions (Wang et al. 2021, "Fighting Gradients with Gradients: Dynamic Defenses against Adversarial Attacks", section 3).

Each row has scales and shifts of its own, reset before every forward, so nothing outlives a query. Two settings: the UniG
authors' (batch statistics, Adam on the mean entropy) and the DENT authors' (running statistics, AdaMod on entropy minus the
entropy of the mean prediction, "shot"). Both couple the rows of a batch.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw
from defenses.base import Defense, Group, Traits


class Dent(Defense):
    """Raises BenchError for a network without BatchNorm2d, and for a group that does not fit one network call."""

    def __init__(
        self,
        model: nn.Module,
        statistics: Literal["batch", "running"],
        loss: Literal["entropy", "shot"],
        optimizer: Literal["adam", "adamod"],
        lr: float,
        betas: list[float],
        steps: int,
        group: dict[str, Any],
        version: int = 1,
    ) -> None:
        super().__init__(model, version)
        for name, value, known in (
            ("statistics", statistics, ("batch", "running")),
            ("loss", loss, ("entropy", "shot")),
            ("optimizer", optimizer, tuple(OPTIMIZERS)),
        ):
            if value not in known:
                raise BenchError(f"defense.{name}={value}: it is one of {', '.join(known)}")
        if steps < 1 or lr <= 0 or len(betas) != 3:
            raise BenchError(
                f"defense.steps={steps} is at least 1, defense.lr={lr} positive, defense.betas={betas} three numbers"
            )
        self.statistics, self.loss, self.steps = statistics, loss, steps
        self.update = OPTIMIZERS[optimizer](lr, *betas)
        shared = Group(**group)
        coupled = statistics == "batch" or loss == "shot"
        if coupled and shared.neighbours not in ("leave", "stay"):
            raise BenchError(
                f"defense.group.neighbours={shared.neighbours}: DENT's rows share a batch, set leave or stay"
            )
        if coupled and shared.size > self.model.rows:
            raise BenchError(
                f"defense.group.size={shared.size} does not fit one network call of numerics.rows={self.model.rows}, and "
                "DENT's statistics are of one call: set a smaller group or more rows"
            )
        self.group = shared if coupled else None
        self.traits = Traits(coupled=coupled, differentiable=False)
        self.norms = [m for m in self.model.network.features.modules() if isinstance(m, nn.BatchNorm2d)]
        if not self.norms:
            raise BenchError("DENT adapts BatchNorm2d layers, and this model has none; choose another model")
        self.affine: dict[nn.Module, tuple[Tensor, Tensor]] = {}  # while a forward is at work
        for norm in self.norms:
            norm.register_forward_hook(self._normalise)

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        fitted = self.fit(x)
        with torch.no_grad():
            return self.answer_with(fitted, x)

    def fit(self, x: Tensor) -> list[Tensor]:
        """The scales and shifts, (B,C) each, that this batch gets; for attackers, too, who can run DENT themselves."""
        n, x = len(x), x.detach()
        fitted = [p.detach().expand(n, -1).clone() for norm in self.norms for p in (norm.weight, norm.bias)]
        memory: list[Any] = [None] * len(fitted)
        try:
            for t in range(1, self.steps + 1):
                with torch.enable_grad():
                    leaves = [p.requires_grad_() for p in fitted]
                    self._set(leaves)
                    slopes = torch.autograd.grad(self._objective(self.model(x)), leaves)
                updated = [self.update(p.detach(), g, m, t) for p, g, m in zip(fitted, slopes, memory, strict=True)]
                fitted, memory = [p for p, _ in updated], [m for _, m in updated]
            self.model.ledger.inner += n * self.steps
            return fitted
        finally:
            self.affine = {}

    def answer_with(self, fitted: list[Tensor], x: Tensor) -> Tensor:
        """(B,K): the network with these scales and shifts; autograd goes through."""
        try:
            self._set(fitted)
            return self.model(x)
        finally:
            self.affine = {}

    def _set(self, fitted: list[Tensor]) -> None:
        self.affine = {norm: (fitted[2 * i], fitted[2 * i + 1]) for i, norm in enumerate(self.norms)}

    def _objective(self, logits: Tensor) -> Tensor:
        """Over real rows alone. Without coupling a sum, so that no row's gradient knows how many there are."""
        log_p = logits.log_softmax(1)
        p = log_p.exp()
        if self.loss == "entropy":
            entropy = -(p * log_p).sum(1)
            return entropy.mean() if self.traits.coupled else entropy.sum()
        mean = p.mean(0)  # both logarithms of the DENT authors' code are of p + 1e-5
        return (mean * (mean + 1e-5).log()).sum() - (p * (p + 1e-5).log()).sum(1).mean()

    def _normalise(self, norm: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor | None:
        """In place of the layer's own output, while a forward is at work. Filler rows follow the first row."""
        if norm not in self.affine:
            return None
        assert isinstance(norm, nn.BatchNorm2d)
        x, (scale, shift) = inputs[0], self.affine[norm]
        n = len(scale)
        if self.statistics == "batch":
            variance, mean = torch.var_mean(x[:n], (0, 2, 3), correction=0)
        else:
            assert norm.running_mean is not None and norm.running_var is not None
            mean, variance = norm.running_mean, norm.running_var
        flat = (x - mean[:, None, None]) * (variance[:, None, None] + norm.eps).rsqrt()
        row = torch.arange(len(x), device=x.device)
        row = torch.where(row < n, row, 0)
        return flat * scale.to(x.dtype)[row][:, :, None, None] + shift.to(x.dtype)[row][:, :, None, None]


Update = Callable[[Tensor, Tensor, Any, int], tuple[Tensor, Any]]  # value, gradient, memory, t from 1 -> value, memory


def adam(lr: float, beta_1: float, beta_2: float, _beta_3: float) -> Update:
    """Kingma and Ba 2015, algorithm 1."""

    def update(p: Tensor, g: Tensor, memory: Any, t: int) -> tuple[Tensor, Any]:
        m, v = memory if memory is not None else (torch.zeros_like(p), torch.zeros_like(p))
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g.square()
        return p - lr / (1 - beta_1**t) * m / ((v / (1 - beta_2**t)).sqrt() + 1e-8), (m, v)

    return update


def adamod(lr: float, beta_1: float, beta_2: float, beta_3: float) -> Update:
    """Ding et al. 2019: Adam whose step sizes are bounded by their own running mean. The mean is of bias-corrected sizes, as in
    its authors' code, which DENT runs; their algorithm 1 corrects m after the bound (at DENT's betas a quarter less on step 2).
    """

    def update(p: Tensor, g: Tensor, memory: Any, t: int) -> tuple[Tensor, Any]:
        m, v, s = memory if memory is not None else (torch.zeros_like(p),) * 3
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g.square()
        size = lr * (1 - beta_2**t) ** 0.5 / (1 - beta_1**t) / (v.sqrt() + 1e-8)
        s = beta_3 * s + (1 - beta_3) * size
        return p - torch.minimum(size, s) * m, (m, v, s)

    return update


OPTIMIZERS: dict[str, Callable[[float, float, float, float], Update]] = {"adam": adam, "adamod": adamod}
