"""PNI at test time: every answer comes from freshly drawn weights (He et al. 2019, section 3.1). The model's layers know their
noise (bench/models/pni.py); here each row of each query gets a draw of its own.
"""

from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw, mix
from defenses.base import Defense, Traits


class Pni(Defense):
    """Raises BenchError for a network without noise layers."""

    traits = Traits(stochastic=True)
    kinds = ("identity", "mean")  # both are the mean weights, by which the bare model answers

    def __init__(self, model: nn.Module, version: int = 1) -> None:
        super().__init__(model, version)
        self.layers = [m for m in self.model.network.modules() if hasattr(m, "set_noise")]
        if not self.layers:
            raise BenchError("defense=pni needs a network with noise layers: set model=pni_resnet20 recipe=pni")

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        key = draw.key()
        try:
            for number, layer in enumerate(self.layers):
                layer.set_noise(mix(key, key * 0 + number))
            return self.model(x)
        finally:
            for layer in self.layers:
                layer.set_noise(None)
