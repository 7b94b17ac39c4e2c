"""Networks of other people: real weights give their published accuracy, and every source refuses what it can't load."""

import io
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import timm
import torch
import torchvision
import yaml
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from bench.core.errors import BenchError
from bench.models.robustbench import imported, robustbench_model
from bench.models.split import Split
from bench.models.timm import timm_model
from bench.models.torchvision import torchvision_model
from bench.models.vgg import vgg_fb

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"


def first(file: Path, column: str, n: int) -> tuple[Tensor, Tensor]:
    """The first n images as (n, 3, H, W) in [0, 1] and their labels; read without our own loaders."""
    table = next(pq.ParquetFile(file).iter_batches(n))
    pixels = [pil_to_tensor(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table[column].to_pylist()]
    return torch.stack(pixels) / 255, torch.tensor(table["label"].to_pylist())


def right(model: Split, x: Tensor, y: Tensor) -> int:
    with torch.no_grad():
        return sum(int((model.eval()(a).argmax(1) == b).sum()) for a, b in zip(x.split(64), y.split(64), strict=True))


def test_f_b_has_its_published_accuracy(bench_data: Path, bench_weights: Path) -> None:
    model = vgg_fb(10, [3, 32, 32], root=str(bench_weights), file="cifar10_vgg0_adv.safetensors")
    found = right(model, *first(bench_data / "cifar10-jpeg" / "test.parquet", "img", 1000))
    assert abs(found - 723) <= 1


def test_timm_network_from_a_file(bench_data: Path, bench_weights: Path) -> None:
    name, file = "tf_efficientnet_lite0", bench_weights / "tf_efficientnet_lite0.safetensors"
    model = timm_model(name, file=str(file))
    assert model.shape == (3, 224, 224)
    x, y = first(bench_data / "imagenet-sample" / "val.parquet", "image", 40)
    x = x[..., 16:240, 16:240]
    assert right(model, x, y) >= 32  # 87.8% of all 1,000
    theirs = timm.create_model(name, checkpoint_path=str(file)).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(x[:4]), theirs((x[:4] - 0.5) / 0.5), rtol=1e-4, atol=1e-4)


def test_torchvision_network_from_a_file(tmp_path: Path) -> None:
    name = "shufflenet_v2_x0_5"
    theirs = torchvision.models.get_model(name).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    model = torchvision_model(name, "IMAGENET1K_V1", root=str(tmp_path), file="w.pth")
    x = torch.rand(2, 3, 224, 224)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs((x - mean) / std))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: torchvision_model("resnet51", "IMAGENET1K_V1"), "no classifier 'resnet51'; did you mean 'resnet50'"),
        (lambda: torchvision_model("resnet18", weights="IMAGENET1K_V9"), "no weights 'IMAGENET1K_V9'"),
        (lambda: torchvision_model("resnet18", weights="DEFAULT"), "no weights 'DEFAULT'"),
        (lambda: timm_model("vit_base_patch16_224"), r"several weights .*vit_base_patch16_224\.augreg_in1k"),
        (lambda: timm_model("tf_efficientnet_light0"), "no network 'tf_efficientnet_light0'; did you mean"),
        (lambda: robustbench_model("Gowal2021Improving_R18"), "did you mean 'Gowal2021Improving_R18_ddpm_100m'"),
        (lambda: robustbench_model("Standard", threat="Linff"), "no threat 'Linff' for cifar10; did you mean 'Linf'"),
        (lambda: robustbench_model("Standard", dataset="cifar11"), "no data set 'cifar11'; did you mean"),
    ],
)
def test_unknown_names(call: Any, says: str) -> None:
    with pytest.raises(BenchError, match=says):
        call()


def test_every_name_in_the_repository_is_pinned_to_weights_of_imagenet_1k() -> None:
    """The GCM paper's networks are trained on ImageNet-1k; timm's untagged ViT-B and Swin-S are of ImageNet-21k and 22k."""
    builds = [yaml.safe_load(path.read_text())["build"] for path in sorted(CONF.glob("*.yaml"))]
    named = [build for build in builds if isinstance(build, dict) and "$" not in build.get("name", "$")]
    timms = [build["name"] for build in named if build.get("_target_", "").endswith("timm_model")]
    assert len(timms) >= 6
    for name in timms:
        tag = name.partition(".")[2]
        assert name in timm.list_models(pretrained=True) and "in1k" in tag, name
        assert not any(more in tag for more in ("in21k", "in22k", "in12k", "jft", "ns_")), name
    others = [build for build in named if build.get("_target_", "").endswith("torchvision_model")]
    assert len(others) >= 4 and all(re.fullmatch(r"IMAGENET1K_V\d", build["weights"]) for build in others)


def test_timm_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = timm.create_model

    def offline(name: str, pretrained: bool = False) -> Any:
        if pretrained:
            raise OSError("no network")
        return real(name)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        BenchError, match=f"could not be downloaded .*put its weights at {tmp_path}/.*lite0.safetensors"
    ):
        timm_model("tf_efficientnet_lite0")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A folder in RobustBench's layout with (random) weights of the entry that the AT row uses."""
    root = tmp_path_factory.mktemp("zoo")
    (root / "cifar10" / "Linf").mkdir(parents=True)
    utils = imported()
    theirs = utils.all_models[utils.BenchmarkDataset.cifar_10][utils.ThreatModel.Linf][NAME]["model"]().eval()
    torch.save({"module." + key: value for key, value in theirs.state_dict().items()}, root / FILE)
    return root, theirs


NAME = "Gowal2021Improving_R18_ddpm_100m"
FILE = f"cifar10/Linf/{NAME}.pt"


def test_robustbench_from_a_folder(zoo: tuple[Path, torch.nn.Module]) -> None:
    root, theirs = zoo
    model = robustbench_model(NAME, root=str(root))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), theirs(x))
        assert model.features(x).shape == (2, 512)


def test_robustbench_refuses_a_page_and_half_a_file(zoo: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    half = (zoo[0] / FILE).read_bytes()[:100_000]
    (tmp_path / FILE).parent.mkdir(parents=True)
    for content, says in ((b"<html>quota</html>", "HTML page"), (half, "truncated")):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(BenchError, match=says):
            robustbench_model(NAME, root=str(tmp_path))


def test_our_tests_are_not_shadowed() -> None:
    """RobustBench installs a top-level package `tests`."""
    assert Path(__file__).parts[-3:] == ("tests", "models", "test_sources.py")
    assert __name__.startswith("tests.models") or __name__.endswith("test_sources")
