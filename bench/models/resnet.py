"""Residual networks for 32x32 images: ResNet-18 with the CIFAR stem, ResNet-20 (He et al. 2016a) and PreActResNet-18
(He et al. 2016b). They also take 28x28. ResNet-20's shortcuts are projections where the size changes (option B)."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from bench.models.split import Normalise, Split


class Basic(nn.Module):
    """relu(shortcut(x) + bn(conv(relu(bn(conv(x))))))"""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv(inside, outside, 3, stride), nn.BatchNorm2d(outside)
        self.conv2, self.norm2 = _conv(outside, outside, 3, 1), nn.BatchNorm2d(outside)
        same = stride == 1 and inside == outside
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(_conv(inside, outside, 1, stride), nn.BatchNorm2d(outside))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(y)))


class PreAct(nn.Module):
    """shortcut(a) + conv(relu(bn(conv(a)))), a = relu(bn(x)); an unchanged size is skipped by x itself, not by a."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inside), _conv(inside, outside, 3, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(outside), _conv(outside, outside, 3, 1)
        self.shortcut = None if stride == 1 and inside == outside else _conv(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.norm1(x))
        skip = x if self.shortcut is None else self.shortcut(a)
        return skip + self.conv2(F.relu(self.norm2(self.conv1(a))))


def resnet18(classes: int, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Split:
    stem = [Normalise(mean, std), _conv(shape[0], 64, 3, 1), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    return _split([*stem, *_stages(Basic, (64, 128, 256, 512), depth=2)], 512, classes, shape)


def resnet20(classes: int, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Split:
    stem = [Normalise(mean, std), _conv(shape[0], 16, 3, 1), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    return _split([*stem, *_stages(Basic, (16, 32, 64), depth=3)], 64, classes, shape)


def preact_r18(classes: int, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Split:
    body = [Normalise(mean, std), _conv(shape[0], 64, 3, 1), *_stages(PreAct, (64, 128, 256, 512), depth=2)]
    return _split([*body, nn.BatchNorm2d(512), nn.ReLU(inplace=True)], 512, classes, shape)


def _stages(block: Callable[[int, int, int], nn.Module], widths: Sequence[int], depth: int) -> list[nn.Module]:
    """`depth` blocks a width; every width but the first halves the image. The stem has the first width."""
    blocks, inside = [], widths[0]
    for number, width in enumerate(widths):
        for place in range(depth):
            blocks.append(block(inside, width, 2 if number > 0 and place == 0 else 1))
            inside = width
    return blocks


def _split(layers: Sequence[nn.Module], wide: int, classes: int, shape: Sequence[int]) -> Split:
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Split(nn.Sequential(*layers, *pool), nn.Linear(wide, classes), shape)


def _conv(inside: int, outside: int, size: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, size, stride, padding=size // 2, bias=False)
