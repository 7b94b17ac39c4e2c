"""A residual network of our own that 2 CPU cores can train and attack: its first convolution halves the image."""

from collections.abc import Sequence

from torch import Tensor, nn

from bench.models.split import Normalise, Split


class Residual(nn.Module):
    """x + two 3x3 convolutions of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_block(channels, channels), *_block(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def cifar_small(
    classes: int, shape: Sequence[int], mean: Sequence[float], std: Sequence[float], widths: Sequence[int]
) -> Split:
    """widths: of the stem, the 16x16, the 8x8 and the 4x4 maps."""
    stem, large, middle, small = widths
    features = nn.Sequential(
        Normalise(mean, std),
        *_block(shape[0], stem, size=4, stride=2),
        *_block(stem, large),
        nn.MaxPool2d(2),
        *_block(large, middle),
        Residual(middle),
        nn.MaxPool2d(2),
        *_block(middle, small),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )
    return Split(features, nn.Linear(small, classes), shape)


def _block(inside: int, outside: int, size: int = 3, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inside, outside, size, stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
