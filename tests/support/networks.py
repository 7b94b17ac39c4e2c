"""Fixed networks that no library's generator can change."""

import torch

from bench.core import rng
from bench.models.pni import noisy
from bench.models.split import Split


def network() -> Split:
    """A fixed network that no library's generator can change."""

    def layer(inputs: int, outputs: int, number: int) -> torch.nn.Linear:
        linear = torch.nn.Linear(inputs, outputs)
        key = rng.keys(number, rng.Stream.TARGET, torch.arange(outputs))
        with torch.no_grad():
            linear.weight.copy_(rng.normal(key, inputs) / inputs**0.5)
            linear.bias.zero_()
        return linear

    features = torch.nn.Sequential(torch.nn.Flatten(), layer(64, 32, 1), torch.nn.ReLU())
    return Split(features, layer(32, 10, 2), (1, 8, 8)).eval().requires_grad_(False)


def convolutional() -> Split:
    """For defences that need batch norm or noise layers: a fixed convolution before the same kind of head."""
    body = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten()
    )
    model = Split(body, torch.nn.Linear(256, 10), (1, 8, 8))
    with torch.no_grad():
        for number, p in enumerate(p for p in model.parameters() if p.ndim > 1):
            p.copy_(rng.normal(rng.keys(number, rng.Stream.TARGET, torch.arange(len(p))), *p.shape[1:]))
            p /= p[0].numel() ** 0.5
        for p in (p for p in model.parameters() if p.ndim == 1):
            p.fill_(float(p is body[1].weight))
    return noisy(model).eval().requires_grad_(False)
