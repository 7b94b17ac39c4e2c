"""UniG: a random channel mask A between backbone and head, one step of which pulls the feature gradients of the rows of a
batch together ("Unifying Gradients to Improve Real-world Robustness for Deep Networks", sections 3.2-3.3, algorithm 1).

Where paper and public code differ we follow the code and keep the paper's form as a switch: the norm is not squared
(`objective`), the step is SGD with momentum and weight decay (`optimizer`), whose buffer may outlive a query (`stateful`).
`steps: 0` is the noise-only control that the paper does not report: the same random, clipped mask without the step.
Gradients are in closed form; tests hold them against autograd.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw, normal
from defenses.base import Defense, Group, Traits

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # the public code's SGD
INIT_STD = 0.5  # the code's reading of N(1, 0.5): a standard deviation


class Unig(Defense):
    """`delta` bounds the mask to [1-delta, 1+delta], `steps` is the paper's p, `alpha` the step size.

    companions: beside each query alone (group.neighbours=companions), or beside a batch that has one row left, as the paper
    has it (section 3.3): without them nothing is unified there, and only noise remains.

    Raises BenchError for settings outside their range and for `stateful` with companions.
    """

    couples_behind_features = True

    def __init__(
        self,
        model: nn.Module,
        delta: float,
        steps: int,
        alpha: float,
        objective: Literal["l2", "squared"],
        optimizer: Literal["sgd", "plain_gd"],
        stateful: bool,
        deterministic_init: bool,
        group: dict[str, object],
        companions: tuple[Tensor, Tensor] | None = None,  # (k, C, H, W) in [0, 1] and their true labels (k,)
        needs: Mapping[str, Any] | None = None,
        version: int = 1,
    ) -> None:
        super().__init__(model, version)
        if not 0 < delta <= 1:
            raise BenchError(f"defense.delta={delta} must lie in (0, 1]: the mask is clipped to [1-delta, 1+delta]")
        if steps < 0 or alpha <= 0:
            raise BenchError(f"defense.steps={steps}, defense.alpha={alpha}: steps is at least 0, alpha above 0")
        for name, value, known in (
            ("objective", objective, ("l2", "squared")),
            ("optimizer", optimizer, ("sgd", "plain_gd")),
        ):
            if value not in known:
                raise BenchError(f"defense.{name}={value}: it is one of {', '.join(known)}")
        self.delta, self.steps, self.alpha = delta, steps, alpha
        self.objective, self.optimizer, self.stateful = objective, optimizer, stateful
        self.deterministic_init = deterministic_init
        self.momentum: Tensor | None = None
        shared = Group(**group)  # type: ignore[arg-type]
        self.copies = shared.size if shared.neighbours == "copies" else 1
        self.queries_per_call = self.copies
        alone = shared.neighbours in ("companions", "copies") or steps == 0
        if stateful and alone:
            raise BenchError(
                "defense.stateful=true needs rows that share a batch: set defense.group.neighbours=leave or stay"
            )
        self.group = None if alone else shared
        self.traits = Traits(
            stochastic=not deterministic_init, coupled=not alone, stateful=stateful, differentiable=False
        )
        self.mates = None
        if shared.neighbours == "companions" and steps and (companions is None or not len(companions[1])):
            raise BenchError("defense.group.neighbours=companions needs training images: set defense.needs.companions")
        if companions is not None and steps and shared.neighbours != "copies":
            self.companion_rows = len(companions[1])
            self.mates = (
                self.model.features(companions[0]),
                companions[1],
            )  # fixed images: their features never change

    @torch.no_grad()
    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        if self.copies > 1:
            return self._to_copies(x, draw)
        return self._answer(self.model.features(x), draw)

    def approximate(self, x: Tensor, draw: Draw, kind: str) -> Tensor:
        """As the base's, in one pass through the network instead of two."""
        if self.copies > 1:
            return super().approximate(x, draw, kind)
        f = self.model.features(x)
        bare = self.model.head(f)
        return bare + (self._answer(f.detach(), draw) - bare).detach()

    @torch.no_grad()
    def _answer(self, f: Tensor, draw: Draw) -> Tensor:
        """(b,d) the features of a batch -> (b,K)."""
        head = self.model.head
        rows, width = f.shape
        label = head(f).argmax(1)  # pseudo-labels, fixed for the whole call (alg. 1, line 2)
        beside = self.mates if self.group is None or rows == 1 else None
        if beside is not None:  # each query heads its own little batch
            mates, truth = beside
            k = len(truth)
            f = torch.cat([f[:, None], mates.expand(rows, k, width)], dim=1)
            label = torch.cat([label[:, None], truth.expand(rows, k)], dim=1)
            mask = self._noise(draw, (1 + k, width))
        else:
            f, label = f[None], label[None]
            mask = self._noise(draw, (width,))[None]
        mask = self._unify(f, label, mask) if self.steps else mask.clamp(1 - self.delta, 1 + self.delta)
        real = (mask * f)[:, 0] if beside is not None else (mask * f)[0]
        return head(real)

    def _to_copies(self, x: Tensor, draw: Draw) -> Tensor:
        """Each query as a batch of copies of itself: the step can only pull their random masks together, nothing of the image
        is left to unify. The attacker gets, and pays, every copy's answer, and takes their mean."""
        k, head = self.copies, self.model.head
        f = self.model.features(x.repeat_interleave(k, 0)).unflatten(0, (len(x), k))
        mask = self._noise(draw, (k, f.shape[-1]))
        label = head(f).argmax(-1)
        mask = self._unify(f, label, mask) if self.steps else mask.clamp(1 - self.delta, 1 + self.delta)
        return head(mask * f).mean(1)

    def _noise(self, draw: Draw, shape: tuple[int, ...]) -> Tensor:
        if self.deterministic_init:
            return torch.ones(len(draw.sample), *shape, device=draw.sample.device)
        return normal(draw.key(), *shape).mul_(INIT_STD).add_(1.0)

    def _unify(self, f: Tensor, label: Tensor, mask: Tensor) -> Tensor:
        """(G,b,d), (G,b), (G,b,d) -> the clipped mask (G,b,d): algorithm 1, lines 3-8, for G separate batches."""
        head = self.model.head
        buffer, bounds = self._buffer(mask), None
        for _ in range(self.steps):
            step = gradient(f, label, mask, head.weight, head.bias, self.objective, bounds)
            bounds, change = step.bounds, step.gradient
            if self.optimizer == "sgd":
                change = change + WEIGHT_DECAY * mask
                buffer = change if buffer is None else MOMENTUM * buffer + change
                change = buffer
            mask = (mask - self.alpha * change).clamp(1 - self.delta, 1 + self.delta)
        if self.stateful:
            self.momentum = buffer
        return mask

    def _buffer(self, mask: Tensor) -> Tensor | None:
        """The momentum that the last query left behind; rows keep their place in the batch, as in the public code."""
        if not self.stateful or self.momentum is None:
            return None
        kept = self.momentum[:, : mask.shape[1]]
        return F.pad(kept, (0, 0, 0, mask.shape[1] - kept.shape[1]))

    def added_parameters(self) -> int:
        """The mask: one row an image of the batch, as the paper counts it (0.26 M = 512 x 512)."""
        batch = self.group.size if self.group else 1 + len(self.mates[1]) if self.mates is not None else self.copies
        return batch * self.model.head.in_features

    def reset(self) -> None:
        self.momentum = None


class Step(NamedTuple):
    gradient: Tensor  # (G,b,d), d objective / d mask
    bounds: tuple[Tensor, Tensor]  # min and max over each batch's feature gradients at the first step, detached


def gradient(
    f: Tensor,
    label: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    objective: str,
    bounds: tuple[Tensor, Tensor] | None,
) -> Step:
    """The objective's gradient in closed form (sheet, section 1, steps 3-7). f, mask (G,b,d), label (G,b), weight (K,d).

    With s = softmax((A*f)W' + beta), r = (s - onehot)W: the feature gradient is g = A*r/b, scaled to h = (g - min)/(max - min),
    and the chain objective is the sum of |h_i - h_{i+1}| (or its square) over neighbours.
    """
    b = f.shape[1]
    soft = torch.softmax((mask * f) @ weight.T + bias, dim=-1)
    onehot = label[..., None] == torch.arange(
        len(weight), device=label.device
    )  # F.one_hot looks at the labels on a CPU
    residual = (soft - onehot.to(soft.dtype)) @ weight
    g = mask * residual / b
    low, high = bounds or (g.amin((1, 2), keepdim=True), g.amax((1, 2), keepdim=True))
    span = high - low
    inverse = torch.where(span > 0, 1 / span, 0.0)  # equal gradients everywhere: nothing to unify
    gap = (g[:, :-1] - g[:, 1:]) * inverse
    if objective == "squared":
        pull = 2 * gap
    else:  # d|v|/dv = v/|v|, and 0 at v = 0, where autograd's sqrt gives NaN
        length = gap.norm(dim=-1, keepdim=True)
        pull = gap * torch.where(length > 0, 1 / length, 0.0)
    d_g = (F.pad(pull, (0, 0, 0, 1)) - F.pad(pull, (0, 0, 1, 0))) * inverse
    q = (d_g * mask) @ weight.T  # back through r, then through the softmax
    t = soft * (q - (soft * q).sum(-1, keepdim=True))
    return Step((d_g * residual + f * (t @ weight)) / b, (low, high))
