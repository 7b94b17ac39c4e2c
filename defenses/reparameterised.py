"""f_a(h(x)): the attacker's stand-in for the adversarial transformation f_a(g(x)). h is a fully convolutional network trained to
minimise || h(x) - g(x) ||^2 (the transformation paper, reparameterisation attack; defenses/recipes/reparameterise.py).

No defence of its own: images are crafted on it and replayed on f_a(g(x)), attack=replay_h.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bench.core.rng import Draw
from defenses.base import Defense


class Reparameterised(Defense):
    """model is f_a; h: (B,C,H,W) in [0, 1] -> (B,C,H,W) near it, frozen; its passes are counted as `inner` rows. Deterministic,
    and autograd goes through both."""

    def __init__(
        self, model: nn.Module, h: nn.Module, needs: Mapping[str, Any] | None = None, version: int = 1
    ) -> None:
        super().__init__(model, version)
        self.h = h

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        self.model.ledger.inner += len(x)
        return self.model(self.h(x))

    def added_parameters(self) -> int:
        return sum(p.numel() for p in self.h.parameters())
