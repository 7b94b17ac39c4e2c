"""GCM: the gradient concealment module x + eps * sin(w * x) (the GCM paper, section 3.2, algorithm 1).

With w = 1e20 and eps = 1e-8 it changes no float32 pixel above 1/4, and multiplies the gradient by 1 + eps * w * cos(w * x):
a factor of up to 1e12 with a sign that is as good as random. It has no parameters and is deterministic for one device, dtype
and maths library. The paper's own evaluation goes through it naively; BPDA with the identity attacks the bare network.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError, nearest
from bench.core.rng import Draw
from bench.models.split import Normalise
from defenses.base import Defense

INPUT, NORMALISED, EVERYWHERE = "input", "after_norm", "all"


class Gcm(Defense):
    """places: `input` (the image in [0, 1]), `after_norm` (behind the normalisation layer), `all` (the image and the output of
    every convolution), or names of modules of the network's features, behind which the map stands.

    Raises BenchError for a place that the network doesn't have.
    """

    def __init__(self, model: nn.Module, w: float, eps: float, places: Sequence[str], version: int = 1) -> None:
        super().__init__(model, version)
        if w <= 0 or eps <= 0 or not places:
            raise BenchError(f"defense.w={w} and defense.eps={eps} must be positive, defense.places={places} not empty")
        self.w, self.eps = w, eps
        self.at_input = INPUT in places or EVERYWHERE in places
        self.mode: str | None = None  # set while a forward is at work: the bare model stays bare
        for module in self._modules_at([place for place in places if place != INPUT]):
            module.register_forward_hook(self._hook)

    def _modules_at(self, places: list[str]) -> list[nn.Module]:
        named = dict(self.model.network.features.named_modules())
        found: list[nn.Module] = []
        for place in places:
            if place == EVERYWHERE:
                found += [m for m in named.values() if isinstance(m, nn.Conv2d)]
            elif place == NORMALISED:
                norms = [m for m in named.values() if isinstance(m, Normalise)]
                if not norms:
                    raise BenchError("defense.places=[after_norm]: this network has no normalisation layer")
                found += norms
            elif place in named:
                found.append(named[place])
            else:
                raise BenchError(
                    f"defense.places: the network has no module {place}{nearest(place, [*named, INPUT, EVERYWHERE])}"
                )
        return list(dict.fromkeys(found))

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self._run(x, "autograd")

    def approximate(self, x: Tensor, draw: Draw, kind: str) -> Tensor:
        """identity: the same forward pass; backward the module is not there."""
        return self._run(x, "identity")

    def _run(self, x: Tensor, mode: str) -> Tensor:
        self.mode = mode
        try:
            return self.model(self._conceal(x) if self.at_input else x)
        finally:
            self.mode = None

    def _hook(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        return None if self.mode is None else self._conceal(output)

    def _conceal(self, x: Tensor) -> Tensor:
        """In float32 whatever the model computes in: 1e20 is infinite in float16."""
        wave = self.eps * torch.sin(self.w * x.float())
        return (x.float() + (wave.detach() if self.mode == "identity" else wave)).to(x.dtype)
