"""The quick max pooling: torch's own numbers, and its own gradients where those are asked for."""

import pytest
import torch
from torch import Tensor, nn

from bench.models.pooling import QuickMaxPool, quicken


def images(*shape: int) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).relu()
    x[0, 0, :3, :3] = torch.tensor([[torch.nan, 1, 2], [-torch.inf, torch.inf, 0], [-3, -2, -1]])
    return x


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (2, 2), (5, 4)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_it_gives_torchs_numbers(size: tuple[int, int], memory: torch.memory_format) -> None:
    x = images(3, 4, 8, 9)[:, :, : size[0], : size[1]].contiguous(memory_format=memory)
    network = nn.Sequential(nn.MaxPool2d(2))
    expected = network(x)
    quicken(network)
    assert type(network[0]) is QuickMaxPool
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0, equal_nan=True)


def test_its_gradient_is_torchs_where_windows_have_ties() -> None:
    network, x = nn.Sequential(nn.MaxPool2d(2)), torch.zeros(2, 3, 6, 6, requires_grad=True)
    (expected,) = torch.autograd.grad(network(x).sum(), x)
    quicken(network)
    assert torch.equal(torch.autograd.grad(network(x).sum(), x)[0], expected) and expected.max() == 1


@pytest.mark.parametrize(
    "other", [nn.MaxPool2d(3), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, padding=1), nn.MaxPool2d(2, ceil_mode=True)]
)
def test_other_windows_stay_torchs(other: nn.MaxPool2d) -> None:
    quicken(nn.Sequential(other))
    assert type(other) is nn.MaxPool2d
