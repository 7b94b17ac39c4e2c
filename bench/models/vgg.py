"""VGG with batch norm: VGG-11 and VGG-19 (Simonyan & Zisserman 2015, columns A and E) with one Linear for small images, and the
small VGG "f_b" that the adversarial-transformation paper defends."""

from collections.abc import Sequence
from typing import cast

from torch import nn

from bench.models.split import Normalise, Split
from bench.models.weights import load_file, load_into, locate

VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
VGG19 = (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M")
FB = (64, "M", 128, "M", 64, 64, "M", 128, 128, "M")


def vgg11(
    classes: int,
    shape: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    width: int = 64,
    pad: int = 0,
) -> Split:
    """width: channels of the first convolution, 64 in the paper. pad: black pixels added to each side; with 2, MNIST's 28x28
    takes all five halvings."""
    return _plain(VGG11, classes, shape, mean, std, width, pad)


def vgg19(classes: int, shape: Sequence[int], mean: Sequence[float], std: Sequence[float], width: int = 64) -> Split:
    """width: as in `vgg11`."""
    return _plain(VGG19, classes, shape, mean, std, width, 0)


def _plain(
    whole: Sequence[int | str],
    classes: int,
    shape: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    width: int,
    pad: int,
) -> Split:
    side = shape[1] + 2 * pad
    plan = whole if side >= 32 else whole[:-1]  # 28x28 has no fifth halving
    plan = [step if isinstance(step, str) else step * width // 64 for step in plan]
    side //= 2 ** plan.count("M")
    padding = [nn.ZeroPad2d(pad)] if pad else []
    layers = [*padding, Normalise(mean, std), *_convolutions(plan, shape[0], bias=False), nn.Flatten()]
    return Split(nn.Sequential(*layers), nn.Linear(512 * width // 64 * side * side, classes), shape)


def vgg_fb(
    classes: int,
    shape: Sequence[int],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    root: str | None = None,
    file: str | None = None,
    sha256: str | None = None,
) -> Split:
    """f_b as its authors wrote it; with `file` their weights, which take raw [0, 1] pixels (no mean and std)."""
    side = shape[1] // 2 ** FB.count("M")
    net = nn.Module()  # the authors' names, so that their checkpoint loads as it is
    net.features = nn.Sequential(*_convolutions(FB, shape[0], bias=True))
    net.classifier = nn.Sequential(
        *(nn.Dropout(), nn.Linear(128 * side * side, 512), nn.ReLU(inplace=True)),
        *(nn.Dropout(), nn.Linear(512, 512), nn.ReLU(inplace=True)),
        nn.Linear(512, classes),
    )
    if file is not None:
        load_into(net, load_file(locate(root, file), sha256), "vgg_fb")
    normalise = [] if mean is None or std is None else [Normalise(mean, std)]
    *hidden, head = net.classifier
    return Split(nn.Sequential(*normalise, *net.features, nn.Flatten(), *hidden), cast(nn.Linear, head), shape)


def _convolutions(plan: Sequence[int | str], channels: int, bias: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for step in plan:
        if isinstance(step, str):
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, step, 3, padding=1, bias=bias), nn.BatchNorm2d(step), nn.ReLU(inplace=True)]
        channels = step
    return layers
