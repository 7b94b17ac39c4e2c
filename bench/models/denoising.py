"""ResNet-18 with feature denoising (Xie et al. 2019, "Feature Denoising for Improving Adversarial Robustness", section 4):
behind each stage a non-local mean over all places of the feature map, a 1x1 convolution, and the map itself added. Here for
32x32 images, in the paper's best form: embedded Gaussian weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.models.resnet import resnet18
from bench.models.split import Split

WIDTHS = (64, 128, 256, 512)


class Denoise(nn.Module):
    """x + bn(conv(mean of x over places, weighted by softmax(theta(x) phi(x) / sqrt(d)))); the norm starts at 0, so the block
    as the identity (section 6: as in non-local networks)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.theta, self.phi = nn.Conv2d(width, width // 2, 1), nn.Conv2d(width, width // 2, 1)
        self.out, self.norm = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, flat = self.theta(x).flatten(2), self.phi(x).flatten(2), x.flatten(2)
        weight = torch.softmax(theta.transpose(1, 2) @ phi / theta.shape[1] ** 0.5, dim=-1)  # (B, here, there)
        mean = (flat @ weight.transpose(1, 2)).view_as(x)
        return x + self.norm(self.out(mean))


def denoising_r18(classes: int, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Split:
    """The stem and the four stages of two blocks of resnet18, a Denoise behind each stage."""
    plain = resnet18(classes, shape, mean, std)
    assert isinstance(plain.features, nn.Sequential)
    layers = list(plain.features)
    stem, blocks, pool = layers[:4], layers[4:12], layers[12:]
    body = [part for n, width in enumerate(WIDTHS) for part in (*blocks[2 * n : 2 * n + 2], Denoise(width))]
    return Split(nn.Sequential(*stem, *body, *pool), plain.head, shape)
