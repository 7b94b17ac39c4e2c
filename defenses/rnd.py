"""RND: Gaussian noise on every query (Qin et al. 2021, "Random Noise Defense Against Query-Based Black-Box Attacks").

`input_noise` is a standard deviation on the [0, 1] pixel scale; the UniG paper calls its 0.02 a variance, its code uses it
as the standard deviation. `output_noise` on the logits is off in that code.
"""

from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw, mix, normal
from defenses.base import Defense, Traits


class Rnd(Defense):
    traits = Traits(stochastic=True)

    def __init__(self, model: nn.Module, input_noise: float, output_noise: float, version: int = 1) -> None:
        super().__init__(model, version)
        for name, std in {"input_noise": input_noise, "output_noise": output_noise}.items():
            if std < 0:
                raise BenchError(f"defense.{name}={std} is a standard deviation: it must be at least 0")
        self.input_noise, self.output_noise = input_noise, output_noise
        self.traits = Traits(stochastic=input_noise + output_noise > 0)

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        key = draw.key()
        if self.input_noise:
            x = (x + self.input_noise * normal(key, *x.shape[1:])).clamp(0, 1)
        logits = self.model(x)
        if self.output_noise:
            logits = logits + self.output_noise * normal(mix(key), logits.shape[1])
        return logits
