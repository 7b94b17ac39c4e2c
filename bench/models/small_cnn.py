"""A network for digits (8x8) and MNIST (28x28): thin convolutions and one hidden layer, sized for 2 CPU cores."""

from collections.abc import Sequence

from torch import nn

from bench.models.split import Normalise, Split


def small_cnn(
    classes: int, shape: Sequence[int], mean: Sequence[float], std: Sequence[float], width: int = 16, hidden: int = 64
) -> Split:
    channels, side = shape[0], shape[1]
    layers: list[nn.Module] = [Normalise(mean, std), *_block(channels, width, stride=1)]
    wide = width
    while side > 4:  # halve until a 4x4 map is left: once for 8x8, three times for 28x28
        layers += _block(wide, 2 * width, stride=2)
        wide, side = 2 * width, (side + 1) // 2
    layers += [nn.Flatten(), nn.Linear(wide * side * side, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
    return Split(nn.Sequential(*layers), nn.Linear(hidden, classes), shape)


def _block(inside: int, outside: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
