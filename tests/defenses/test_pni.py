"""PNI: each row has its own weights, equal to the same layer run alone with them; training draws once a batch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.errors import BenchError
from bench.models.pni import ALPHA, NoisyConv2d, NoisyLinear, pni_small_cnn
from bench.models.split import Split
from bench.rng import Draw, Stream
from bench.victim import FixedRows, Ledger
from defenses.pni import Pni
from defenses.recipes import adversarial


def draw(n: int, nth: int = 0) -> Draw:
    number = torch.arange(n)
    return Draw(0, number, torch.full_like(number, nth), Stream.DEFENCE)


def defence() -> Pni:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = pni_small_cnn(10, [1, 8, 8], [0.3], [0.38], 8, 16).eval().requires_grad_(False)
    return Pni(FixedRows(network, 16, torch.float32, Ledger(100, torch.device("cpu"))))


X = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_stochastic_and_independent_of_place() -> None:
    pni = defence()
    first = pni(X, draw(16))
    assert torch.equal(first, pni(X, draw(16))) and not torch.allclose(first, pni(X, draw(16, 1)), atol=1e-3)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    assert torch.equal(pni(X[order], draw(16).rows(order)), first[order])
    same = pni(X[:1].expand(16, -1, -1, -1), draw(16))
    assert same.std(0).min() > 1e-3  # one image, sixteen draws
    mean = torch.stack([pni(X, draw(16, nth)) for nth in range(300)]).mean(0)
    bare = pni.surrogate("identity")(X)
    assert (mean - bare).abs().mean() < 0.25 * (first - bare).abs().mean()


@pytest.mark.parametrize("groups", [1, 2])
def test_a_row_is_the_layer_with_that_rows_weights(groups: int) -> None:
    layer = NoisyConv2d(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=groups)).eval()
    x, key = torch.rand(5, 4, 9, 9), torch.arange(5) * 12345
    layer.set_noise(key)
    ours, weights = layer(x), layer.row_weights(key)
    for i in range(5):
        slow = F.conv2d(x[i : i + 1], weights[i], layer.bias, 2, 1, groups=groups)
        assert torch.allclose(ours[i : i + 1], slow, atol=1e-5)
    spread = (weights - layer.weight)[:, 0].std() / layer.weight.std()
    assert abs(float(spread) - ALPHA) < 0.05
    linear = NoisyLinear(nn.Linear(7, 3)).eval()
    linear.set_noise(key)
    flat, own = torch.rand(5, 7), linear.row_weights(key)
    slow = torch.stack([own[i] @ flat[i] + linear.bias for i in range(5)])
    assert torch.allclose(linear(flat), slow, atol=1e-5)


def test_training_learns_alpha_and_noise_is_one_draw_a_batch() -> None:
    layer = NoisyConv2d(nn.Conv2d(2, 3, 3)).train()
    same = torch.ones(2, 2, 5, 5)
    y = layer(same)
    assert torch.equal(y[0], y[1]) and not torch.equal(y, layer(same))
    y.square().sum().backward()
    assert layer.alpha.grad is not None and (layer.alpha.grad != 0).all() and layer.alpha.shape == (3,)
    assert layer.weight.grad is not None


def test_adversarial_training_crafts_inside_the_ball_and_keeps_statistics() -> None:
    network = pni_small_cnn(10, [1, 8, 8], [0.3], [0.38], 8, 16).train()
    y = torch.arange(16) % 10
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    with adversarial.statistics_kept(network):
        crafted = adversarial.pgd(network, X, y, 1 / 12, 5, 1 / 40, True)
    assert (crafted - X).abs().max() <= 1 / 12 + 1e-6 and crafted.min() >= 0 and crafted.max() <= 1
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    plain = F.cross_entropy(network(X), y)
    assert F.cross_entropy(network(crafted), y) > plain
    settings = {"eps": "1/12", "steps": 2, "step": "1/40", "random_start": True, "label_smoothing": 0.0}
    value, logits = adversarial.loss(network, X, y, clean_weight=0.5, **settings)  # type: ignore[arg-type]
    value.backward()
    assert logits.shape == (16, 10) and torch.isfinite(value)
    assert any(not torch.equal(value, network.state_dict()[name]) for name, value in before.items())  # the update itself
    with pytest.raises(BenchError, match="clean_weight=2"):
        adversarial.loss(network, X, y, clean_weight=2, **settings)  # type: ignore[arg-type]


def test_a_network_without_noise_layers_is_refused() -> None:
    plain = Split(nn.Flatten(), nn.Linear(64, 5), (1, 8, 8))
    with pytest.raises(BenchError, match="model=pni_resnet20"):
        Pni(FixedRows(plain, 16, torch.float32, Ledger(10, torch.device("cpu"))))
