"""The transformation paper's two rivals: TRADES against its formula, feature denoising against a slow loop."""

import pytest
import torch
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.models.denoising import Denoise, denoising_r18
from defenses.recipes import trades
from tests.support.networks import convolutional

SETTINGS = {"eps": "0.1", "steps": 5, "step": "0.04", "beta": 6.0, "label_smoothing": 0.0}


def test_divergence_is_the_sum_of_p_log_p_over_q() -> None:
    generator = torch.Generator().manual_seed(0)
    clean, moved = (torch.randn(7, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    total = 0.0
    for a, b in zip(clean.softmax(1), moved.softmax(1), strict=True):
        total += sum(float(p * (p / q).log()) for p, q in zip(a, b, strict=True))
    assert float(trades.divergence(clean, moved)) == pytest.approx(total / 7)


def test_the_worst_image_lies_in_the_ball_and_the_loss_is_the_papers() -> None:
    model = convolutional().train()
    x = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = torch.arange(16) % 10
    torch.manual_seed(0)
    worst = trades.farthest(model, x, 0.1, 5, 0.04)
    assert model.training and worst.min() >= 0 and worst.max() <= 1 and (worst - x).abs().max() <= 0.1 + 1e-6
    model.eval()
    with torch.no_grad():
        noise = (x + 0.1 * torch.randn_like(x).sign()).clamp(0, 1)
        assert trades.divergence(model(x), model(worst)) > 2 * trades.divergence(model(x), model(noise))
    torch.manual_seed(0)
    value, logits = trades.loss(model, x, y, **SETTINGS)
    expected = F.cross_entropy(model(x), y) + 6 * trades.divergence(model(x), model(worst))
    assert float(value) == pytest.approx(float(expected), rel=1e-4) and torch.allclose(logits, model(x))
    assert all(p.grad is None for p in model.parameters())  # what makes the images leaves no gradient behind
    with pytest.raises(BenchError, match=r"recipe\.loss\.beta=0"):
        trades.loss(model, x, y, **(SETTINGS | {"beta": 0}))


def test_denoising_is_a_mean_over_all_places_and_begins_as_the_identity() -> None:
    torch.manual_seed(0)
    block = Denoise(4).eval()
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(block(x), x)
    torch.nn.init.ones_(block.norm.weight)
    with torch.no_grad():
        theta, phi, found = block.theta(x), block.phi(x), torch.zeros_like(x)
        for b in range(2):
            for i in range(9):
                scores = [
                    float((theta[b, :, i // 3, i % 3] * phi[b, :, j // 3, j % 3]).sum()) / 2**0.5 for j in range(9)
                ]
                weights = torch.tensor(scores).softmax(0)
                for j in range(9):
                    found[b, :, i // 3, i % 3] += weights[j] * x[b, :, j // 3, j % 3]
        assert torch.allclose(block(x), x + block.norm(block.out(found)), atol=1e-5)


def test_the_network_is_resnet18_with_four_blocks_behind_its_stages() -> None:
    network = denoising_r18(10, [3, 16, 16], [0.5] * 3, [0.2] * 3)
    kinds = [type(layer).__name__ for layer in network.features]  # type: ignore[union-attr]
    assert kinds[4:16] == ["Basic", "Basic", "Denoise"] * 4
    assert network(torch.rand(2, 3, 16, 16)).shape == (2, 10)
