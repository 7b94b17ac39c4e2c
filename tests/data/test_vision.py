"""CIFAR and idx files, small ones written in the official layouts; the network is always down."""

import gzip
import hashlib
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets

from bench.core.errors import BenchError
from bench.data import vision
from bench.data.vision import cifar, idx

RNG = np.random.default_rng(0)


def refusal(call: Callable[[], object], *parts: object) -> None:
    """One line that holds every part."""
    with pytest.raises(BenchError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert [str(part) for part in parts if str(part) not in text] == [], text


def image(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no network here")

    for module in (datasets.cifar, datasets.mnist):
        monkeypatch.setattr(module, "download_and_extract_archive", refuse)


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, name: str, classes: int) -> dict[str, Any]:
    """The python batches as published, 4 images a file; torchvision is told their md5 sums."""
    kind = getattr(datasets, name)
    place = root / kind.base_folder
    place.mkdir(parents=True)
    key = "labels" if name == "CIFAR10" else "fine_labels"
    batches = {}
    for file, _ in kind.train_list + kind.test_list:
        batches[file] = {"data": image(4, 3072), key: RNG.integers(0, classes, 4).tolist()}
        (place / file).write_bytes(pickle.dumps(batches[file], protocol=2))
    meta = kind.meta["filename"]
    (place / meta).write_bytes(pickle.dumps({kind.meta["key"]: [str(i) for i in range(classes)]}, protocol=2))
    for entry in ("train_list", "test_list"):
        monkeypatch.setattr(kind, entry, [[file, md5(place / file)] for file, _ in getattr(kind, entry)])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(place / meta)})
    return batches


@pytest.mark.parametrize(("name", "classes", "train"), [("CIFAR10", 10, 20), ("CIFAR100", 100, 4)])
def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, classes: int, train: int) -> None:
    batches = write_cifar(tmp_path, monkeypatch, name, classes)
    assert len(cifar(tmp_path, "train", name).labels) == train
    test, batch = cifar(tmp_path, "test", name), batches["test_batch" if name == "CIFAR10" else "test"]
    assert test.labels.tolist() == batch["labels" if name == "CIFAR10" else "fine_labels"]
    assert (test.pixels(torch.tensor([2, 1])).numpy() == batch["data"].reshape(4, 3, 32, 32)[[2, 1]]).all()
    assert test.ids.tolist() == [0, 1, 2, 3]
    assert test.digest() == cifar(tmp_path, "test", name).digest()


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.exit, ("a file with a wrong md5 sum was unpickled",)


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_cifar_wrong_file_is_never_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, split: str
) -> None:
    write_cifar(tmp_path, monkeypatch, "CIFAR10", 10)
    path = tmp_path / "cifar-10-batches-py" / file
    for content in (pickle.dumps(Bomb()), path.read_bytes()[:50], b""):
        path.write_bytes(content)
        refusal(lambda: cifar(tmp_path, split, "CIFAR10"), path, "half-written", "md5", "delete it")
        assert path.read_bytes() == content  # a person's file is theirs to delete


def test_cifar_missing_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "cifar-10-batches-py"
    refusal(
        lambda: cifar(tmp_path, "test", "CIFAR10"), place, "no network here", "cifar-10-python.tar.gz", "BENCH_DATA"
    )
    assert list(tmp_path.iterdir()) == []  # a failed download leaves nothing
    write_cifar(tmp_path, monkeypatch, "CIFAR10", 10)
    (place / "data_batch_5").unlink()
    refusal(lambda: cifar(tmp_path, "test", "CIFAR10"), place, "not whole", "no network here")
    refusal(lambda: cifar(tmp_path / "typo", "test", "CIFAR10"), tmp_path / "typo", "does not exist", "dataset.root")
    assert not (tmp_path / "typo").exists()


def test_cifar_is_downloaded_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path / "server", monkeypatch, "CIFAR10", 10)

    def fetch(url: str, root: str, **_: Any) -> None:
        shutil.copytree(tmp_path / "server", root, dirs_exist_ok=True)

    monkeypatch.setattr(datasets.cifar, "download_and_extract_archive", fetch)
    home = tmp_path / "home"
    (home / "cifar-10-batches-py").mkdir(parents=True)
    shutil.copy(tmp_path / "server/cifar-10-batches-py/test_batch", home / "cifar-10-batches-py")
    assert cifar(home, "train", "CIFAR10").digest() == cifar(tmp_path / "server", "train", "CIFAR10").digest()
    assert [path.name for path in home.iterdir()] == ["cifar-10-batches-py"]


def test_cifar_label_outside_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch, "CIFAR10", 1)
    monkeypatch.setitem(vision.CIFAR, "CIFAR10", (datasets.CIFAR10, 0))
    refusal(lambda: cifar(tmp_path, "test", "CIFAR10"), "cifar-10-batches-py", "sample 0 has label 0")


def test_cifar_unknown_split_and_name(tmp_path: Path) -> None:
    refusal(lambda: cifar(tmp_path, "val", "CIFAR10"), "split=val is unknown", "test, train")
    refusal(lambda: cifar(tmp_path, "test", "CIFAR1O"), "name=CIFAR1O is unknown", "did you mean 'CIFAR10'")


def write_idx(place: Path, monkeypatch: pytest.MonkeyPatch, name: str, zipped: bool) -> dict[str, np.ndarray]:
    """The four files as published, 5 training and 3 test images; the md5 sums of their content are noted."""
    place.mkdir(parents=True, exist_ok=True)
    arrays, sums = {}, {}
    for stem, n in (("train", 5), ("t10k", 3)):
        arrays[f"{stem}-images-idx3-ubyte"] = image(n, 28, 28)
        arrays[f"{stem}-labels-idx1-ubyte"] = RNG.integers(0, 10, n).astype(np.uint8)
    for file, array in arrays.items():
        content = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
        sums[file] = hashlib.md5(content).hexdigest()
        (place / f"{file}.gz").write_bytes(gzip.compress(content)) if zipped else (place / file).write_bytes(content)
    monkeypatch.setitem(vision.MD5, name, sums)
    return arrays


PLACES = [
    ("MNIST", "MNIST/raw"),
    ("MNIST", "."),
    ("FashionMNIST", "FashionMNIST/raw"),
    ("FashionMNIST", "share/datasets/fashion-mnist"),
    ("FashionMNIST", "fashion-mnist"),
    ("FashionMNIST", "."),
]


@pytest.mark.parametrize(("name", "place"), PLACES)
@pytest.mark.parametrize("zipped", [True, False])
def test_idx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str, zipped: bool) -> None:
    arrays = write_idx(tmp_path / place, monkeypatch, name, zipped)
    for split, stem in (("train", "train"), ("test", "t10k")):
        source, images = idx(str(tmp_path), split, name), arrays[f"{stem}-images-idx3-ubyte"]
        assert (source.pixels(torch.tensor([2, 0])).numpy() == images[[2, 0]][:, None]).all()
        assert source.labels.tolist() == arrays[f"{stem}-labels-idx1-ubyte"].tolist()


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    write_idx(tmp_path, monkeypatch, "MNIST", zipped)
    path = tmp_path / ("t10k-images-idx3-ubyte" + ".gz" * zipped)
    whole = path.read_bytes()
    for content in (whole[:1000], whole[:9], b"", b"<html>not found</html>", whole[:-20] + bytes(20)):
        path.write_bytes(content)
        refusal(lambda: idx(tmp_path, "test", "MNIST"), path, "fetch it anew")


def test_idx_of_the_other_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both use the same file names, so a folder given directly could silently be the wrong one."""
    write_idx(tmp_path, monkeypatch, "MNIST", True)
    refusal(lambda: idx(tmp_path, "test", "FashionMNIST"), "t10k-images-idx3-ubyte.gz", "not from FashionMNIST")


def test_idx_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal(lambda: idx(tmp_path, "test", "MNIST"), tmp_path / "MNIST/raw", "four idx files", "BENCH_DATA")
    assert list(tmp_path.iterdir()) == []
    write_idx(tmp_path, monkeypatch, "FashionMNIST", True)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    refusal(lambda: idx(tmp_path, "test", "FashionMNIST"), tmp_path / "FashionMNIST/raw", "could not be downloaded")
    refusal(lambda: idx(tmp_path, "val", "MNIST"), "split=val is unknown")


def test_debians_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """apt install dataset-fashion-mnist; dataset.root=/usr."""
    if not Path("/usr/share/datasets/fashion-mnist").is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    source = idx("/usr", "test", "FashionMNIST")
    assert source.labels.bincount().tolist() == [1000] * 10
