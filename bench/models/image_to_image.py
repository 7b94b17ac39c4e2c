"""Networks from image to image, of any size: the h of the transformation paper's reparameterisation attack (its architecture is
not in our text; this one is ours)."""

from collections.abc import Sequence

from torch import Tensor, nn

from bench.core.errors import BenchError


class Shift(nn.Module):
    """x + layers(x): what is learned is the change."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Still(nn.Conv2d):
    """Begins at zero, so that the network begins as the identity."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def convolutional(shape: Sequence[int], width: int, dilations: Sequence[int]) -> Shift:
    """3x3 convolutions of `width` channels, one for each dilation, then one back to the image's channels: (B,C,H,W) ->
    (B,C,H,W). Dilated, since g's direction depends on what the whole image shows; batch norm behind the ReLU, so that plain SGD
    meets features without a mean."""
    if width < 1 or not dilations or min(dilations) < 1:
        raise BenchError(f"build.width={width} and every one of build.dilations={list(dilations)} must be at least 1")
    layers: list[nn.Module] = []
    channels = shape[0]
    for dilation in dilations:
        convolution = nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation, bias=False)
        layers += [convolution, nn.ReLU(inplace=True), nn.BatchNorm2d(width)]
        channels = width
    return Shift(nn.Sequential(*layers, Still(channels, shape[0], 3, padding=1)))
