"""Oracles for images that shall transfer to unknown networks: they vary the image or smooth the gradient."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from attacks.base import Evaluation, Oracle, Rows
from bench.core.errors import BenchError
from bench.core.rng import mix, uniform
from bench.core.victim import Victim


class Diverse:
    """Input diversity (Xie et al. 2019, section 3.2): with probability `share` the image is shrunk to `low`..1 of its size and
    put at a random place on black; the gradient goes back through that."""

    def __init__(self, victim: Victim, share: float, low: float, inner: Callable[..., Oracle]) -> None:
        if not 0 <= share <= 1 or not 0 < low <= 1:
            raise BenchError(f"attack.oracle.share={share} must lie in [0, 1], attack.oracle.low={low} in (0, 1]")
        self.victim, self.share, self.low, self.inner = victim, share, low, inner(victim=victim)

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            changed = self._change(leaf, rows)
        answer = self.inner(changed.detach().clamp(0, 1), rows, loss, live)  # interpolation rounds up to 6e-8 too far
        (grad,) = torch.autograd.grad(changed, leaf, answer.grad)
        return answer._replace(grad=grad)

    def _change(self, x: Tensor, rows: Rows) -> Tensor:
        chance = uniform(mix(rows.key, self.victim.passes(rows.sample)), 4)
        size = 1 - (1 - self.low) * chance[:, 0] * (chance[:, 3] < self.share)
        free = (1 / size - 1)[:, None] * (2 * chance[:, 1:3] - 1)  # how far its centre may lie from the middle
        zoom = torch.zeros(len(x), 2, 3, device=x.device)
        zoom[:, 0, 0] = zoom[:, 1, 1] = 1 / size
        zoom[:, :, 2] = free
        grid = F.affine_grid(zoom, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    def logits(self, x: Tensor, rows: Rows, live: Tensor) -> Tensor:
        return self.inner.logits(x, rows, live)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        return self.inner.forward(self._change(x, rows).clamp(0, 1), rows)


class TranslationInvariant:
    """The gradient smoothed by a Gaussian of `size` x `size` pixels (Dong et al. 2019, equation 7): as if over shifted images."""

    def __init__(self, victim: Victim, size: int, inner: Callable[..., Oracle]) -> None:
        if size < 1 or size % 2 == 0:
            raise BenchError(f"attack.oracle.size={size} must be odd, so that the kernel has a middle")
        self.inner, self.size = inner(victim=victim), size
        line = torch.arange(size, dtype=torch.float32) - size // 2
        bell = torch.exp(-(line**2) / (2 * (size / 5) ** 2))  # the authors' 15 pixels have a deviation of 3
        self.kernel = (bell[:, None] * bell / bell.sum() ** 2).to(victim.ledger.device)

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        answer = self.inner(x, rows, loss, live)
        return answer._replace(grad=self._smooth(answer.grad))

    def _smooth(self, grad: Tensor) -> Tensor:
        channels = grad.shape[1]
        kernel = self.kernel.expand(channels, 1, -1, -1)
        return F.conv2d(grad, kernel, padding=self.size // 2, groups=channels)

    def logits(self, x: Tensor, rows: Rows, live: Tensor) -> Tensor:
        return self.inner.logits(x, rows, live)

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        smoothed = x.view_as(x)  # a hook on x itself would also smooth what comes by other ways
        if smoothed.requires_grad:
            smoothed.register_hook(self._smooth)
        return self.inner.forward(smoothed, rows)
