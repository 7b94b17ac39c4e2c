"""AAA-sine: AAA whose wanted margin is a sine around the true one (Chen et al. 2022, "Adversarial Attack on Attackers:
Post-Process to Mitigate Black-Box Score-Based Query Attacks", section 3.3), so that it falls in the middle of each interval where
the true one rises, as AAA-linear's does, but is continuous from interval to interval."""

from math import pi

from torch import Tensor

from defenses.aaa import Aaa


class AaaSine(Aaa):
    """`alpha`: the sine's height in intervals; its slope in the middle of one is 1 - 2 pi alpha, which reverses the trend from
    1 / (2 pi) on."""

    def wanted(self, margin: Tensor) -> Tensor:
        """(B,) the margin to show."""
        middle = ((margin / self.tau).floor() + 0.5) * self.tau
        return margin - self.alpha * self.tau * (pi * (1 - 2 * (margin - middle) / self.tau)).sin()
