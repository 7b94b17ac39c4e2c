"""What preprocessing defences share: the network answers a changed image, and BPDA goes around the change."""

from torch import Tensor

from bench.core.rng import Draw
from defenses.base import Defense, Traits


class Preprocessed(Defense):
    """Of a subclass, `change` alone is asked for; one whose change has a true gradient says so in its traits."""

    traits = Traits(differentiable=False)

    def change(self, x: Tensor, draw: Draw) -> Tensor:
        """(B,C,H,W) in [0, 1] -> the image that the network sees, of the same shape."""
        raise NotImplementedError(f"{type(self).__name__} defines no change")

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self.model(self.change(x, draw))

    def approximate(self, x: Tensor, draw: Draw, kind: str) -> Tensor:
        """identity: the network's gradient at the changed image, as if nothing had changed it (Athalye et al. 2018, 4.1)."""
        return self.model(x + (self.change(x.detach(), draw) - x).detach())
