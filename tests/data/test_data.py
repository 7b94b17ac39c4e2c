"""Order, digits, the YAMLs, and the real images of BENCH_DATA."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.transforms import v2

from bench.config.fields import Node
from bench.config.instantiate import make
from bench.core.errors import BenchError
from bench.data.digits import digits
from bench.data.pictures import View
from bench.data.source import Source, order, to_float

CONF = Path(__file__).resolve().parents[2] / "conf"
DATASETS = sorted(file.stem for file in (CONF / "dataset").glob("*.yaml"))


def dataset(name: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("bench", overrides=[f"dataset={name}", *overrides])
    content = OmegaConf.to_container(config.dataset, resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def real(name: str, root: Path, split: str) -> Source:
    config = dataset(name, f"dataset.root={root}")
    source: Source = make(Node.model_validate(config["source"]), root=config["root"], split=split)
    assert list(source.pixels(torch.arange(1)).shape[1:]) == config["shape"]
    return source


def test_order_is_stable_for_ever() -> None:
    """Golden values: a change here moves every sample of every stored record."""
    labels = torch.arange(20) % 3
    assert order(labels, "first", 7).tolist() == list(range(20))
    assert order(labels, "seeded", 0).tolist() == [10, 18, 3, 11, 16, 5, 7, 14, 4, 17, 15, 1, 12, 2, 8, 9, 19, 6, 13, 0]
    assert order(labels, "seeded", 1).tolist() == [7, 14, 16, 19, 11, 13, 17, 0, 6, 8, 3, 18, 10, 1, 2, 9, 5, 15, 4, 12]
    assert order(labels, "per_class", 0).tolist() == [
        18,
        10,
        11,
        3,
        16,
        5,
        15,
        7,
        14,
        12,
        4,
        17,
        9,
        1,
        2,
        6,
        19,
        8,
        0,
        13,
    ]


def test_hash_is_splitmix64() -> None:
    """Against a scalar version in Python's whole numbers, written from the published constants."""

    def mix(state: int) -> int:
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    for seed in (0, 1, 12345):
        ranks = [mix((n + (seed + 1) * 0x9E3779B97F4A7C15) % 2**64) for n in range(300)]
        assert order(torch.zeros(300), "seeded", seed).tolist() == sorted(range(300), key=ranks.__getitem__)


@pytest.mark.parametrize("kind", ["first", "seeded", "per_class"])
def test_order_is_a_permutation(kind: str) -> None:
    assert order(torch.arange(1000) % 7, kind, 3).sort().values.tolist() == list(range(1000))


def test_per_class_takes_classes_in_turn_and_keeps_the_hashed_order() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 5)
    chosen = order(labels, "per_class", 4)
    assert labels[chosen[:15]].tolist() == [0, 1, 2] * 5
    assert labels[chosen[15:21]].tolist() == [0, 1] * 3  # class 2 is used up
    seeded = order(labels, "seeded", 4)
    for label in range(3):
        assert chosen[labels[chosen] == label].tolist() == seeded[labels[seeded] == label].tolist()


def test_unknown_order() -> None:
    with pytest.raises(BenchError, match="did you mean 'seeded'"):
        order(torch.zeros(3), "seded", 0)


def test_to_float_divides_once() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    values = to_float(pixels, torch.device("cpu"))
    assert values.dtype == torch.float32
    assert (values * 255).round().to(torch.uint8).equal(pixels)
    assert values[255] == 1
    with pytest.raises(TypeError, match="uint8"):
        to_float(values.double(), torch.device("cpu"))
    assert to_float(values, torch.device("cpu")).equal(values)  # arrays of float32 are in [0, 1] already


def test_digits_split() -> None:
    train, test = digits(None, "train"), digits(None, "test")
    assert (len(train.labels), len(test.labels)) == (1297, 500)
    assert torch.cat([train.ids, test.ids]).sort().values.tolist() == list(range(1797))
    assert test.ids[:8].tolist() == [3, 10, 18, 20, 21, 33, 40, 41]
    assert train.digest() == digits(None, "train").digest() != test.digest()


def test_digits_are_scikit_learns() -> None:
    bunch: Any = load_digits()
    test = digits(None, "test")
    pixels = test.pixels(torch.tensor([3, 0]))
    assert pixels.shape == (2, 1, 8, 8)
    assert pixels.dtype == torch.uint8
    for row, image in zip([3, 0], pixels, strict=True):
        number = int(test.ids[row])
        assert int(test.labels[row]) == bunch.target[number]
        assert (image[0].numpy() == np.round(bunch.images[number] * 255 / 16)).all()


def test_digits_unknown_split() -> None:
    with pytest.raises(BenchError, match=r"^split=tset is unknown; did you mean 'test'\?$"):
        digits(None, "tset")


@pytest.mark.parametrize("name", DATASETS)
def test_every_yaml(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each composes, is whole, and without a folder ends in a line that says what to set."""
    monkeypatch.delenv("BENCH_DATA", raising=False)
    config = dataset(name)
    assert {"version", "revision", "classes", "shape", "mean", "std", "root", "source"} == set(config)
    assert config["root"] is None
    own = name in ("arrays", "csv", "folders")  # of anybody's, so they name no file, and one mean serves all channels
    assert len(config["mean"]) == len(config["std"]) and len(config["mean"]) in (
        config["shape"][0],
        *([1] if own else []),
    )
    assert config["source"].get("classes", config["classes"]) == config["classes"]
    assert config["source"].get("channels", 3) == config["shape"][0] or "parquet" not in config["source"]["_target_"]
    if name != "digits":
        for root in (None, ""):
            said = r"dataset\.source\." if own else r"BENCH_DATA=<folder> or dataset.root=<folder>$"
            with pytest.raises(BenchError, match=said):
                make(Node.model_validate(config["source"]), root=root, split="test")


def test_yaml_reads_bench_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert dataset("cifar10_jpeg")["root"] == str(tmp_path)


def test_digits_mean_and_std() -> None:
    config, train = dataset("digits"), digits(None, "train").images.double() / 255
    assert float(train.mean()) == pytest.approx(config["mean"][0], abs=2e-3)
    assert float(train.std()) == pytest.approx(config["std"][0], abs=2e-3)


@pytest.mark.parametrize(
    ("name", "split", "n"),
    [
        ("cifar10_jpeg", "train", 50000),
        ("cifar10_jpeg", "test", 10000),
        ("mnist_parquet", "train", 60000),
        ("mnist_parquet", "test", 10000),
        ("imagenet_sample", "test", 1000),
    ],
)
def test_real_data(bench_data: Path, name: str, split: str, n: int) -> None:
    source, config = real(name, bench_data, split), dataset(name)
    assert len(source.labels) == n
    assert source.ids.tolist() == list(range(n))
    assert source.labels.unique().tolist() == list(range(config["classes"]))
    rows = order(source.labels, "seeded", 0)[: 100 if n == 1000 else 1000]
    values = source.pixels(rows).double() / 255
    assert values.mean((0, 2, 3)).tolist() == pytest.approx(config["mean"], abs=0.03)
    assert values.std((0, 2, 3)).tolist() == pytest.approx(config["std"], abs=0.06)


@pytest.mark.parametrize("name", ["cifar10_jpeg", "mnist_parquet"])
def test_real_rows_are_the_files_rows(bench_data: Path, name: str) -> None:
    """Across row groups and in any order, against pandas and PIL."""
    source = real(name, bench_data, "test")
    frame = pq.read_table(next(bench_data.glob(dataset(name)["source"]["files"]["test"]))).to_pandas()
    column = "img" if "img" in frame else "image"
    rows = torch.tensor([9999, 0, 1000, 999, 5432, 0])
    for row, image in zip(rows.tolist(), source.pixels(rows), strict=True):
        expected = np.array(Image.open(io.BytesIO(frame[column][row]["bytes"])))
        assert (image.permute(1, 2, 0).squeeze(-1).numpy() == expected).all()
        assert int(source.labels[row]) == frame["label"][row]


def test_real_crop_is_the_centre(bench_data: Path) -> None:
    source = real("imagenet_sample", bench_data, "test")
    content = pq.read_table(bench_data / "imagenet-sample/val.parquet")["image"][17].as_py()["bytes"]
    expected = v2.functional.pil_to_tensor(v2.CenterCrop(224)(Image.open(io.BytesIO(content)).convert("RGB")))
    assert source.pixels(torch.tensor([17]))[0].equal(expected)


@pytest.mark.parametrize("size", [(301, 257), (257, 301), (256, 256), (500, 333), (90, 700)])
def test_resize_and_crop_are_torchvisions(size: tuple[int, int]) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    stored = io.BytesIO()
    picture.save(stored, "PNG")
    usual = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])
    straight = v2.Compose([v2.Resize((224, 200)), v2.PILToTensor()])
    assert View(3, 256, 224).decode(stored.getvalue(), "p").equal(usual(picture))
    assert View(3, [224, 200], None).decode(stored.getvalue(), "p").equal(straight(picture))


def test_truncated_real_parquet(bench_data: Path, tmp_path: Path) -> None:
    whole = (bench_data / "cifar10-jpeg/test.parquet").read_bytes()
    (tmp_path / "cifar10-jpeg").mkdir()
    file = tmp_path / "cifar10-jpeg/test.parquet"
    for size in (0, 3, 1000, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(BenchError, match="half-written") as caught:
            real("cifar10_jpeg", tmp_path, "test")
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
