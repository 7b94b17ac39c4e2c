"""Any network: a class of one's own, its checkpoints, whole programs in a file, several answers, and what can't work."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.assemble import networks
from bench.assemble.untrained import untrained
from bench.config import grid
from bench.config.specs import CellSpec
from bench.core.errors import BenchError
from bench.data.samples import load
from bench.models.own import wrapped
from bench.models.split import NoHead, Split
from bench.models.weights import fitted
from bench.run import cell
from tests.support.cells import Compose
from tests.support.scene import CPU

SHAPE = (1, 8, 8)
MODULE = """
import torch
from torch import nn
class Plain(nn.Module):
    def __init__(self, width: int = 8, classes: int = 10):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU())
        self.fc = nn.Linear(width, classes)
    def forward(self, x):
        return self.fc(self.body(x))
class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 10, 3)
    def forward(self, x):
        return self.conv(x).amax((2, 3))
class Needy(Plain):
    def __init__(self, colour):
        super().__init__()
def text():
    return "a network"
"""


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("module")
    (folder / "own_net_of_test.py").write_text(MODULE)
    sys.path.append(str(folder))
    import own_net_of_test  # pyright: ignore[reportMissingImports]

    yield own_net_of_test
    sys.path.remove(str(folder))


def made(module: Any, name: str = "Plain", **fields: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return getattr(module, name)(**fields).eval()


def mine(name: str, *words: str) -> list[str]:
    return ["model=mine", f"model.build._target_=own_net_of_test.{name}", *words]


def built(*words: str) -> Split:
    (one,) = grid.cells(["recipe.epochs=1", *words])
    spec = CellSpec.parse(one.config)
    return untrained(spec)  # pyright: ignore[reportReturnType]


X = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(5))


def test_the_last_linear_is_the_head_and_the_answers_are_the_network_s(module: Any) -> None:
    net = made(module)
    split = wrapped(net, SHAPE)
    assert isinstance(split.head, nn.Linear) and split.features(X).shape == (5, 8)
    assert torch.equal(split(X), net(X))
    normalised = wrapped(net, SHAPE, mean=[0.3], std=[0.2])
    torch.testing.assert_close(normalised(X), net((X - 0.3) / 0.2))


def test_a_network_that_no_linear_ends_stays_whole(module: Any) -> None:
    net = made(module, "Pooled")
    split = wrapped(net, SHAPE)
    assert isinstance(split.head, NoHead) and split.head.out_features == 10
    assert torch.equal(split(X), net(X))


class Heads(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.body, self.a, self.b, self.how = nn.Flatten(), nn.Linear(64, 3), nn.Linear(64, 3), how

    def forward(self, x: Tensor) -> Any:
        x = self.body(x)
        a, b = self.a(x), self.b(x)
        return {"logits": a, "loss": b} if self.how == "dict" else (a, b)


@pytest.mark.parametrize(
    ("how", "output", "wanted"),
    [
        ("dict", None, lambda a, b: a),
        ("dict", "loss", lambda a, b: b),
        ("tuple", 1, lambda a, b: b),
        ("tuple", "mean", lambda a, b: (a + b) / 2),
    ],
)
def test_one_field_says_which_answer_the_logits_are(how: str, output: Any, wanted: Any) -> None:
    net = Heads(how).eval()
    torch.testing.assert_close(wrapped(net, SHAPE, output=output)(X), wanted(net.a(X.flatten(1)), net.b(X.flatten(1))))
    with pytest.raises(BenchError, match=r"Heads answers .*model\.own\.output=4 is none of it"):
        wrapped(net, SHAPE, output=4)


def test_several_answers_and_no_field_are_an_error_that_names_it() -> None:
    with pytest.raises(BenchError, match=r"answers tuple \(0 to 1\).*model\.own\.output"):
        wrapped(Heads("tuple"), SHAPE)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("below", [None, "state_dict", "model_state_dict"])
def test_checkpoints_load_whatever_wrapped_the_network(
    prefix: str, below: str | None, module: Any, tmp_path: Path
) -> None:
    net = made(module)
    state: Any = {prefix + name: tensor for name, tensor in net.state_dict().items()}
    torch.save({below: state, "epoch": 3} if below else state, tmp_path / "net.pt")
    split = built(*mine("Plain", f"model.own.file={tmp_path}/net.pt"))
    assert torch.equal(split(X), net(X))


def test_a_prefix_that_is_the_network_s_own_stays() -> None:
    inner = nn.ModuleDict({"model": nn.Linear(2, 2)})
    assert fitted(inner.state_dict(), inner.state_dict()).keys() == inner.state_dict().keys()


@pytest.mark.parametrize("kind", ["script", "export"])
def test_a_whole_program_in_a_file_answers_and_has_gradients(
    kind: str, module: Any, tmp_path: Path, compose: Compose
) -> None:
    net, file = made(module), tmp_path / "net.pt2"
    if kind == "script":
        torch.jit.save(torch.jit.script(net), str(file))
    else:
        batch = torch.export.Dim("batch", min=1, max=4096)
        torch.export.save(torch.export.export(net, (torch.rand(4, *SHAPE),), dynamic_shapes=({0: batch},)), file)
    words = ["model=program", f"model.build.file={file}"]
    split = built(*words)
    torch.testing.assert_close(split(X), net(X))
    leaf = X.clone().requires_grad_()
    (grad,) = torch.autograd.grad(split(leaf).sum(), leaf)
    assert grad.abs().sum() > 0
    assert cell.run(compose(*words, "attack=pgd", "attack.steps=2", "samples=8", "numerics.rows=8"))
    with pytest.raises(BenchError, match="works on the features before a last Linear"):
        cell.run(compose(*words, "defense=unig", "defense.group.size=8", "samples=8", "numerics.rows=8"))


def test_a_network_of_one_s_own_is_trained_and_attacked_and_its_file_is_in_the_key(
    module: Any, compose: Compose, tmp_path: Path
) -> None:
    words = ["samples=16", "threat.queries=5", "numerics.rows=16"]
    config = compose(*mine("Plain", "model.weights=recipe"), "recipe=standard_digits", "recipe.epochs=1", *words)
    assert cell.run(config)
    torch.save(made(module).state_dict(), tmp_path / "a.pt")
    from_file = compose(*mine("Plain", f"model.own.file={tmp_path}/a.pt"), *words)
    identity = CellSpec.parse(from_file).identity()["model"]
    assert (
        len(identity["own"]["sha256"]) == 64 and "_source_" in identity["build"] and str(tmp_path) not in str(identity)
    )
    assert cell.run(from_file)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model=mine"], r"_target_ names nothing yet; set model\.build\._target_="),
        (["model=mine", "model.build._target_=nowhere.Net"], r"_target_=nowhere\.Net can't be imported"),
        (mine("Needy"), r"own_net_of_test\.Needy .*missing 1 required positional argument: 'colour'"),
        (mine("Plain", "+model.build.widht=3"), r"takes no 'widht'; did you mean 'width'"),
        (mine("Plain"), r"draws other weights at each build; set model\.own\.file"),
        (mine("text"), r"makes a str, no torch\.nn\.Module"),
        (mine("Plain", "dataset=cifar10"), r"Plain can't take images of dataset\.shape=\[3, 32, 32\]"),
        (mine("Plain", "model.own.mean=[0.5]"), r"mean=\[0\.5\] and std=None go together"),
        (["model=timm"], r"model\.name is not set; write model\.name="),
        (["model=timm", "model.name=resnet999"], "timm has no network 'resnet999'; did you mean"),
        (["model=torchvision", "model.name=resnet19"], "torchvision has no classifier 'resnet19'; did you mean"),
        (["model=robustbench", "model.name=Carmon2019"], "did you mean 'Carmon2019Unlabeled'"),
        (["model=hf", "model.name=x/y"], r"transformers"),
        (["model=program", "model.build.file=/nowhere.pt"], "no network at /nowhere.pt"),
    ],
)
def test_what_can_t_work_is_one_line(words: list[str], says: str) -> None:
    with pytest.raises(BenchError, match=says) as caught:
        built(*words)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_architecture_and_logits_of_another_width_are_one_line(
    module: Any, tmp_path: Path
) -> None:
    torch.save(made(module, width=9).state_dict(), tmp_path / "wide.pt")
    with pytest.raises(BenchError, match=r"another architecture than Plain: other shape"):
        built(*mine("Plain", f"model.own.file={tmp_path}/wide.pt"))
    torch.save(made(module, classes=7).state_dict(), tmp_path / "seven.pt")
    (one,) = grid.cells(mine("Plain", f"model.own.file={tmp_path}/seven.pt", "+model.build.classes=7"))
    with pytest.raises(BenchError, match=r"answers 7 classes, but dataset\.classes=10"):
        networks.deployed(one.spec, load(one.spec.dataset, one.spec.samples, CPU), tmp_path)
    (tmp_path / "noise.pt").write_bytes(b"PK noise")
    with pytest.raises(BenchError, match="neither TorchScript nor an exported program"):
        built("model=program", f"model.build.file={tmp_path}/noise.pt")
