"""PNI: each row has its own weights, equal to the same layer run alone with them; training draws once a batch."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.victim import FixedRows, Ledger, Victim, check_rows
from bench.models.pni import ALPHA, NoisyConv2d, NoisyLinear, noisy, pni_small_cnn
from bench.models.split import Split
from bench.models.weights import fresh
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
    bare = pni.model(X)
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
    spread = (weights - layer.weight).detach()[:, 0].std() / layer.weight.detach().std()
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
    after = network.state_dict()  # of the update itself
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    for bad, line in (
        ({"clean_weight": 2}, "clean_weight=2"),
        ({"eps": "8"}, "loss.eps=8 must be a fraction"),
        ({"eps": "8/25S"}, "loss.eps=8/25S"),
        ({"step": "-1/255"}, "loss.step=-1/255"),
    ):
        with pytest.raises(BenchError, match=line):
            adversarial.loss(network, X, y, **(settings | {"clean_weight": 0.5} | bad))  # type: ignore[arg-type]


def test_a_network_without_noise_layers_is_refused() -> None:
    plain = Split(nn.Flatten(), nn.Linear(64, 5), (1, 8, 8))
    with pytest.raises(BenchError, match="model=pni_resnet20"):
        Pni(FixedRows(plain, 16, torch.float32, Ledger(10, torch.device("cpu"))))


def test_a_row_alone_in_the_victims_call_is_the_row_among_others() -> None:
    pni = defence()
    victim, number = Victim(pni, pni.model, seed=0), torch.arange(16)
    check_rows(victim, X, number)
    live = torch.ones(16, dtype=torch.bool)
    whole = victim.query(X, draw(16), live)
    for i in (0, 7, 15):
        some = slice(i, i + 1)
        assert torch.equal(victim.query(X[some], draw(16).rows(some), live[some]), whole[some])


def test_the_gradient_is_the_true_one() -> None:
    """What Traits(differentiable=True) says: the draw held fixed, against differences in float64."""
    network = pni_small_cnn(10, [1, 8, 8], [0.3], [0.38], 4, 8).eval().requires_grad_(False).double()
    layers = [m for m in network.modules() if isinstance(m, NoisyConv2d | NoisyLinear)]
    for number, layer in enumerate(layers):
        layer.set_noise(torch.arange(2) + 10 * number)
    assert torch.autograd.gradcheck(network, (X[:2].double().requires_grad_(),), atol=1e-5)


def test_conversion_keeps_weights_and_a_fresh_start_keeps_alpha() -> None:
    plain = Split(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), nn.Linear(72, 5), (1, 8, 8)).eval()
    before = plain(X)
    network = noisy(plain)
    assert torch.equal(network(X), before)
    fresh(network, seed=3)
    state = network.state_dict()
    assert [name for name in state if "alpha" in name] == ["features.0.alpha", "head.alpha"]
    assert all((value == ALPHA).all() for name, value in state.items() if "alpha" in name)
