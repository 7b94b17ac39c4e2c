"""Every network: its shapes, its split, its YAML."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.models import robustbench as rb
from bench.models.small_cnn import small_cnn
from bench.models.split import Normalise, Split, lower, split_at_last_linear
from bench.models.weights import fresh

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
NAMES = sorted(file.stem for file in CONF.glob("*.yaml"))


def node(name: str) -> Any:
    """A model's YAML with those that it builds on."""
    own: Any = OmegaConf.load(CONF / f"{name}.yaml")
    for base in own.pop("defaults", []):
        own = own if base == "_self_" else OmegaConf.merge(node(base), own)
    return own


TRAINED = [name for name in NAMES if node(name).weights == "recipe"]
GENERIC = {"mine", "program", "timm", "torchvision", "robustbench", "hf"}  # of any name: test_own.py
READY = [
    name for name in NAMES if node(name).weights == "own" and name not in GENERIC
]  # sets of models have tests of their own
CIFAR = {"classes": 10, "shape": [3, 32, 32], "mean": [0.49, 0.48, 0.45], "std": [0.25, 0.24, 0.26]}
MNIST = {"classes": 7, "shape": [1, 28, 28], "mean": [0.13], "std": [0.31]}
PARAMETERS = {  # as public implementations count them
    "preact_r18": 11_171_146 + 1_024,  # that one lacks the last batch norm
    "resnet18": 11_173_962,
    "resnet20": 269_722 + 2_752,  # option A; our shortcuts are projections
    "vgg11": 9_231_114 - 2_752,  # that one has biases before batch norm
}


def build(name: str, dataset: dict[str, Any]) -> Split:
    config = OmegaConf.create({"dataset": dataset, "model": node(name)})
    try:
        return instantiate(config.model.build, _convert_="all").eval()
    except InstantiationException as error:  # Hydra wraps what a constructor raises
        raise error.__cause__ or error from None


def images(dataset: dict[str, Any], n: int = 3) -> Tensor:
    return torch.rand(n, *dataset["shape"], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("dataset", [CIFAR, MNIST], ids=["cifar", "mnist"])
def test_shapes_and_split(name: str, dataset: dict[str, Any]) -> None:
    model, x = build(name, dataset), images(dataset)
    with torch.no_grad():
        z = model.features(x)
        logits = model(x)
    assert z.shape == (3, model.head.in_features)
    assert logits.shape == (3, dataset["classes"])
    assert torch.equal(model.head(z), logits)
    with pytest.raises(BenchError, match=r"takes images of shape \(\d, \d\d, \d\d\), not \(3, 16, 16\)"):
        model(torch.rand(2, 3, 16, 16))


@pytest.mark.parametrize("name", PARAMETERS)
def test_size_is_that_of_the_published_network(name: str) -> None:
    assert sum(p.numel() for p in build(name, CIFAR).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(
    "name", [name for name in TRAINED if "pad" not in node(name).build]
)  # padding is black, not mean
def test_normalisation_is_inside(name: str) -> None:
    """x under (mean, std) is (x - mean) / std under (0, 1), and the stored weights don't hold the numbers."""
    model, plain = build(name, CIFAR), build(name, CIFAR | {"mean": [0.0] * 3, "std": [1.0] * 3})
    plain.load_state_dict(model.state_dict())
    x = images(CIFAR)
    with torch.no_grad():
        torch.testing.assert_close(model(x), plain(Normalise(CIFAR["mean"], CIFAR["std"])(x)))


@pytest.mark.parametrize("name", READY)
def test_ready_models_load_offline_or_say_what_is_missing(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(rb.imported(), "download_gdrive_new", offline, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("BENCH_WEIGHTS", raising=False)
    with pytest.raises(BenchError, match=r"set BENCH_WEIGHTS=|could not be downloaded .*put its weights at /"):
        build(name, CIFAR)
    root = request.getfixturevalue("bench_weights")
    file = OmegaConf.load(CONF / f"{name}.yaml").build.get("file")
    if file and (root / file).is_file():
        monkeypatch.setenv("BENCH_WEIGHTS", str(root))
        model = build(name, CIFAR)
        assert model(torch.rand(2, *model.shape)).shape == (2, model.head.out_features)


def test_fresh_weights_are_a_function_of_the_seed() -> None:
    before = torch.get_rng_state()
    a, b, c = (build("small_cnn", MNIST) for _ in range(3))
    torch.set_rng_state(before)
    for model, seed in ((a, 1), (b, 1), (c, 2)):
        fresh(model, seed)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert not torch.equal(a.head.weight, c.head.weight)


class Foreign(nn.Module):
    def __init__(self, end: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU())
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.stem(x))


def test_foreign_network_is_split() -> None:
    foreign = Foreign(nn.Sequential(nn.Dropout(), nn.Linear(5, 4)))
    split = split_at_last_linear(foreign, (3, 2, 2), [0.5] * 3, [0.2] * 3)
    x = torch.rand(6, 3, 2, 2)
    assert split.features(x).shape == (6, 5)
    assert torch.equal(split(x), foreign((x - 0.5) / 0.2))  # and the foreign network still works
    assert not split.training


@pytest.mark.parametrize("end", [nn.Sequential(nn.Linear(5, 4), nn.Softmax(1)), nn.Sequential(nn.Tanh(), nn.ReLU())])
def test_network_without_a_last_linear_is_refused(end: nn.Module) -> None:
    with pytest.raises(BenchError, match="no features/head split"):
        split_at_last_linear(Foreign(end), (3, 2, 2))


def test_in_bfloat16_the_image_is_not_rounded_before_normalisation() -> None:
    """A probe of a thousandth moves a bfloat16 network's answer, though bfloat16 has no pixel between 0.5 and 0.5039."""
    network = small_cnn(10, (1, 8, 8), [0.5], [0.001], 4, 8).eval()
    assert lower(network.features, torch.bfloat16) is torch.float32
    x = torch.full((1, 1, 8, 8), 0.5)
    with torch.no_grad():
        assert not torch.equal(network.features(x), network.features(x + 0.001))
    assert network.features(x).dtype is torch.bfloat16
