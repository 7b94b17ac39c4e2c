"""Layers with trained noise on their weights: W + alpha * eta, eta ~ N(0, std(W)), alpha a channel's own and learned (He et al.
2019, "Parametric Noise Injection: Trainable Randomness to Improve Deep Neural Network Robustness", equations 1-3, 6).

In training one draw serves the batch, from torch's generator as the training loop seeds it. In eval mode a layer is its mean
weight, unless `set_noise` gave it a key for every row: then each row is answered by weights of its own, so that it does not
depend on its neighbours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.rng import banked_normal
from bench.models.cifar_small import cifar_small
from bench.models.resnet import resnet20
from bench.models.small_cnn import small_cnn
from bench.models.split import Split

ALPHA = 0.25  # to begin with


class _Noisy(nn.Module):
    """What both layers share; `alpha` (out,)."""

    weight: Tensor
    alpha: nn.Parameter
    key: Tensor | None = None

    def set_noise(self, key: Tensor | None) -> None:
        """key (B,) int64: each row's own weights; None: the mean weights."""
        self.key = key

    def batch_weight(self) -> Tensor:
        noise = torch.empty_like(self.weight).normal_()
        return self.weight + self._scale() * noise

    def row_weights(self, key: Tensor) -> Tensor:
        """(B, *weight.shape). A million fresh normals an answer would cost more than the network, so each row and layer reads a
        stretch of one fixed bank of four million, from a place of its own."""
        noise = banked_normal(key, *self.weight.shape)
        return torch.addcmul(self.weight, self._scale(), noise.to(self.weight.dtype))

    def _scale(self) -> Tensor:
        return self.alpha.view(-1, *[1] * (self.weight.ndim - 1)) * self.weight.detach().std()


class NoisyConv2d(_Noisy, nn.Conv2d):
    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__(
            plain.in_channels, plain.out_channels, plain.kernel_size, plain.stride, plain.padding, plain.dilation,  # type: ignore[arg-type]
            plain.groups, plain.bias is not None,
        )  # fmt: skip
        self.alpha = nn.Parameter(torch.full((plain.out_channels,), ALPHA))

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.training:
            return self._conv_forward(x, self.batch_weight(), self.bias)
        if self.key is None:
            return self._conv_forward(x, self.weight, self.bias)
        rows, weights = len(self.key), self.row_weights(self.key).flatten(0, 1)
        side_by_side = x.reshape(1, -1, *x.shape[2:])  # rows become groups of channels
        bias = None if self.bias is None else self.bias.repeat(rows)
        groups = rows * self.groups
        y = F.conv2d(side_by_side, weights, bias, self.stride, self.padding, self.dilation, groups)  # type: ignore[arg-type]
        return y.view(rows, -1, *y.shape[2:])


class NoisyLinear(_Noisy, nn.Linear):
    def __init__(self, plain: nn.Linear) -> None:
        super().__init__(plain.in_features, plain.out_features, plain.bias is not None)
        self.alpha = nn.Parameter(torch.full((plain.out_features,), ALPHA))

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.training:
            return F.linear(x, self.batch_weight(), self.bias)
        if self.key is None:
            return F.linear(x, self.weight, self.bias)
        y = (self.row_weights(self.key) * x[:, None]).sum(2)
        return y if self.bias is None else y + self.bias


def noisy(network: Split) -> Split:
    """The same network, weights and mode kept, with noise on every convolution and linear layer."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            parent, _, leaf = name.rpartition(".")
            layer = NoisyConv2d(module) if isinstance(module, nn.Conv2d) else NoisyLinear(module)
            layer.load_state_dict(module.state_dict(), strict=False)  # all but alpha
            setattr(network.get_submodule(parent), leaf, layer.train(module.training))
    return network


def pni_resnet20(classes: int, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Split:
    return noisy(resnet20(classes, shape, mean, std))


def pni_cifar_small(
    classes: int, shape: Sequence[int], mean: Sequence[float], std: Sequence[float], widths: Sequence[int]
) -> Split:
    return noisy(cifar_small(classes, shape, mean, std, widths))


def pni_small_cnn(
    classes: int, shape: Sequence[int], mean: Sequence[float], std: Sequence[float], width: int, hidden: int
) -> Split:
    return noisy(small_cnn(classes, shape, mean, std, width, hidden))
