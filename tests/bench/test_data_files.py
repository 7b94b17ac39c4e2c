"""Small data sets written in the official layouts and read back: CIFAR, idx, Tiny ImageNet, ImageNet, parquet."""

import gzip
import hashlib
import io
import pickle
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision import datasets

from bench.data import parquet as parquet_module
from bench.data import vision
from bench.data.folder import imagenet, tiny_imagenet
from bench.data.parquet import Parquet, parquet
from bench.data.vision import cifar, idx
from bench.errors import BenchError

RNG = np.random.default_rng(0)
FILES = {"train": "some/train*.parquet", "test": "some/test*.parquet"}


def refusal(call: Callable[[], object], *parts: object) -> None:
    """One line that holds every part."""
    with pytest.raises(BenchError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert [str(part) for part in parts if str(part) not in text] == [], text


def image(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, kind)
    return stored.getvalue()


def md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no network here")

    for module in (datasets.cifar, datasets.mnist):
        monkeypatch.setattr(module, "download_and_extract_archive", refuse)


# CIFAR ----------------------------------------------------------------------------------------------------------------


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
    refusal(lambda: cifar(tmp_path, "test", "CIFAR10"), place, "no network here", "cifar-10-python.tar.gz", "BENCH_DATA")
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


# idx ------------------------------------------------------------------------------------------------------------------


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


# folders --------------------------------------------------------------------------------------------------------------


def write_tiny(place: Path) -> dict[str, np.ndarray]:
    """Three synsets, wnids.txt unsorted as published, 2 training and 2 val images each."""
    synsets, pictures, lines = ["n03", "n01", "n02"], {}, []
    for turn, synset in enumerate(synsets):
        folder = place / "train" / synset / "images"
        folder.mkdir(parents=True)
        for i in range(2):
            pictures[f"{synset}_{i}"] = image(64, 64, 3)
            (folder / f"{synset}_{i}.JPEG").write_bytes(encoded(pictures[f"{synset}_{i}"]))
            lines.append(f"val_{turn + 3 * i}.JPEG\t{synset}\t0\t32\t44\t62\n")
    (place / "wnids.txt").write_text("\n".join(synsets) + "\n")
    (place / "val/images").mkdir(parents=True)
    (place / "val/val_annotations.txt").write_text("".join(lines))
    for i in range(6):
        pictures[f"val_{i}"] = image(64, 64, 3)
        (place / f"val/images/val_{i}.JPEG").write_bytes(encoded(pictures[f"val_{i}"]))
    return pictures


@pytest.mark.parametrize("below", ["tiny-imagenet-200", "."])
def test_tiny_imagenet(tmp_path: Path, below: str) -> None:
    pictures = write_tiny(tmp_path / below)
    train, test = (tiny_imagenet(tmp_path, split, 3, images={"train": 6, "test": 6}) for split in ("train", "test"))
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]  # sorted synsets: n01 n02 n03
    assert (train.pixels(torch.tensor([5]))[0].permute(1, 2, 0).numpy() == pictures["n03_1"]).all()
    assert test.labels.tolist() == [2, 0, 1, 2, 0, 1]  # val_0 .. val_5
    assert (test.pixels(torch.tensor([4, 0]))[0].permute(1, 2, 0).numpy() == pictures["val_4"]).all()
    assert test.digest() != train.digest() == tiny_imagenet(tmp_path, "train", 3).digest()


def test_tiny_imagenet_damaged(tmp_path: Path) -> None:
    refusal(lambda: tiny_imagenet(tmp_path, "test", 3), tmp_path / "tiny-imagenet-200/wnids.txt", "BENCH_DATA")
    write_tiny(tmp_path)
    refusal(lambda: tiny_imagenet(tmp_path, "test", 200), "wnids.txt names 3 synsets, not 200")
    refusal(lambda: tiny_imagenet(tmp_path, "tst", 3), "did you mean 'test'")
    (tmp_path / "val/images/val_3.JPEG").unlink()
    refusal(lambda: tiny_imagenet(tmp_path, "test", 3), tmp_path / "val/images/val_3.JPEG", "is missing")
    (tmp_path / "val/val_annotations.txt").write_text("val_0.JPEG\tn0")
    refusal(lambda: tiny_imagenet(tmp_path, "test", 3), "val_annotations.txt", "names no synset")
    (tmp_path / "train/n02/images/n02_1.JPEG").unlink()
    refusal(lambda: tiny_imagenet(tmp_path, "train", 3, images={"train": 6}), "5 images, not 6", "images=null")
    (tmp_path / "train/n02/images/n02_0.JPEG").unlink()
    refusal(lambda: tiny_imagenet(tmp_path, "train", 3), tmp_path / "train/n02/images", "no pictures")


def write_imagenet(place: Path) -> None:
    for synset, sizes in {"n02": [(80, 60), (60, 90)], "n01": [(70, 70)]}.items():
        (place / synset).mkdir(parents=True)
        for i, size in enumerate(sizes):
            (place / synset / f"{i}.JPEG").write_bytes(encoded(image(*size, 3), "JPEG"))
    (place / "n01" / "grey.JPEG").write_bytes(encoded(image(64, 64), "JPEG"))


@pytest.mark.parametrize("below", ["imagenet/val", "val"])
def test_imagenet(tmp_path: Path, below: str) -> None:
    write_imagenet(tmp_path / below)
    source = imagenet(tmp_path, "test", 2, resize=50, crop=40)
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert source.files == ["n01/0.JPEG", "n01/grey.JPEG", "n02/0.JPEG", "n02/1.JPEG"]
    pixels = source.pixels(torch.tensor([3, 1]))
    assert pixels.shape == (2, 3, 40, 40)
    assert pixels[1, 0].equal(pixels[1, 1])  # grey became three equal planes
    assert imagenet(tmp_path, "test", 2, resize=[40, 30]).pixels(torch.arange(4)).shape == (4, 3, 40, 30)


def test_imagenet_damaged(tmp_path: Path) -> None:
    place = tmp_path / "imagenet/val"
    refusal(lambda: imagenet(tmp_path, "test", 2), place, "0 class folders, not 2", "BENCH_DATA")
    write_imagenet(place)
    refusal(lambda: imagenet(tmp_path, "test", 2, images={"test": 5}), place, "4 images, not 5", "copied by half")
    mixed = imagenet(tmp_path, "test", 2)
    refusal(lambda: mixed.pixels(torch.tensor([2])), place / "n02/0.JPEG", "(3, 80, 60)", "(3, 70, 70)")
    refusal(lambda: imagenet(tmp_path, "test", 2, crop=65).pixels(torch.tensor([1])), "grey.JPEG", "crop of 65", "resize")
    source, file = imagenet(tmp_path, "test", 2, resize=50, crop=40), place / "n02/1.JPEG"
    file.write_bytes(file.read_bytes()[:300])
    refusal(lambda: source.pixels(torch.tensor([0, 3])), file, "damaged")
    file.write_bytes(b"<html>")
    refusal(lambda: source.pixels(torch.tensor([3])), file, "no image")
    file.unlink()
    refusal(lambda: source.pixels(torch.tensor([3])), file, "is missing")


# parquet --------------------------------------------------------------------------------------------------------------


def write_parquet(file: Path, columns: Mapping[str, Any], group: int = 3) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), file, row_group_size=group)


def structs(pictures: list[np.ndarray]) -> list[dict[str, Any]]:
    return [{"bytes": encoded(picture), "path": f"{i}.png"} for i, picture in enumerate(pictures)]


def small(root: Path, split: str = "train", **settings: Any) -> Parquet:
    return parquet(root, split, FILES, **{"classes": 10, **settings})


def test_parquet_shards_row_groups_and_any_order(tmp_path: Path) -> None:
    pictures = [image(6, 5, 3) for _ in range(12)]
    for shard, (first, last) in enumerate([(0, 7), (7, 12)]):
        columns = {"label": list(range(first % 10, first % 10 + last - first)), "img": structs(pictures[first:last])}
        columns["label"] = [label % 10 for label in columns["label"]]
        write_parquet(tmp_path / f"some/train-{shard:05}-of-00002.parquet", columns)
    source = small(tmp_path, images={"train": 12})
    assert source.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    rows = torch.tensor([11, 0, 7, 6, 2, 3, 11])
    assert (source.pixels(rows).permute(0, 2, 3, 1).numpy() == np.stack([pictures[row] for row in rows])).all()
    assert source.pixels(rows[:0]).shape == (0, 3, 6, 5)
    refusal(lambda: small(tmp_path, images={"train": 13}), "12 images, not 13")
    assert small(tmp_path).digest() == source.digest()


def test_parquet_decodes_and_holds_only_what_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [image(6, 5, 3) for _ in range(12)]
    write_parquet(tmp_path / "some/train.parquet", {"label": [0] * 12, "img": structs(pictures)})
    source = small(tmp_path)
    assert list(source.column.held) == [0]  # the first image told the shape
    source.pixels(torch.tensor([10]))
    assert list(source.column.held) == [0, 3]
    monkeypatch.setattr(parquet_module, "KEEP", 1)
    expected = np.stack(pictures)
    for row in (4, 10, 0):
        assert (source.pixels(torch.tensor([row]))[0].permute(1, 2, 0).numpy() == expected[row]).all()
        assert list(source.column.held) == [row // 3]
    assert source.digest() != small(tmp_path).labels  # the short form of a big set's digest works too
    short = source.digest()
    write_parquet(tmp_path / "some/train.parquet", {"label": [1] * 12, "img": structs(pictures)})
    assert short != small(tmp_path).digest()


def test_parquet_grey_resize_and_named_columns(tmp_path: Path) -> None:
    columns = {"fine": [1, 2], "coarse": [0, 0], "image": structs([image(8, 8), image(8, 8, 3)])}
    write_parquet(tmp_path / "some/test.parquet", columns)
    refusal(lambda: small(tmp_path, "test"), "2 columns that could be the label", "fine int64", "dataset.source.label")
    refusal(lambda: small(tmp_path, "test", label="fin"), "no column fin", "did you mean 'fine'")
    refusal(lambda: small(tmp_path, "test", label="image"), "0 columns that could be the label")
    assert small(tmp_path, "test", label="fine").labels.tolist() == [1, 2]
    assert small(tmp_path, "test", label="fine").pixels(torch.arange(2)).shape == (2, 3, 8, 8)
    assert small(tmp_path, "test", label="fine", channels=1).pixels(torch.arange(2)).shape == (2, 1, 8, 8)
    assert small(tmp_path, "test", label="fine", resize=12, crop=10).pixels(torch.arange(2)).shape == (2, 3, 10, 10)


def test_parquet_missing(tmp_path: Path) -> None:
    refusal(lambda: small(tmp_path), tmp_path / "some/train*.parquet", "BENCH_DATA", "dataset.root")
    refusal(lambda: small(tmp_path, "val"), "split=val is unknown", "test, train")


@pytest.mark.parametrize(
    ("labels", "parts"),
    [([0, 10], ["sample 1 has label 10", "outside 0..9"]), ([-1, 0], ["label -1"]), ([None, 3], ["1 samples have no"])],
)
def test_parquet_labels(tmp_path: Path, labels: list[int | None], parts: list[str]) -> None:
    write_parquet(tmp_path / "some/train.parquet", {"label": labels, "img": structs([image(4, 4, 3)] * 2)})
    refusal(lambda: small(tmp_path), "train", *parts)


def test_parquet_bad_pictures(tmp_path: Path) -> None:
    good = structs([image(4, 4, 3)])[0]
    for content, part in ((good["bytes"][:60], "damaged"), (b"<html>", "no image"), (None, "no bytes")):
        columns = {"label": [0] * 3, "img": [good, good, {"bytes": content, "path": "x.png"}]}
        write_parquet(tmp_path / "some/train.parquet", columns)
        source = small(tmp_path)
        assert source.pixels(torch.arange(2)).shape == (2, 3, 4, 4)
        refusal(lambda: source.pixels(torch.arange(3)), tmp_path / "some/train.parquet: sample 2", part)  # noqa: B023
    write_parquet(tmp_path / "some/train.parquet", {"label": [0] * 2, "img": structs([image(4, 4, 3), image(4, 5, 3)])})
    refusal(lambda: small(tmp_path).pixels(torch.tensor([1])), "sample 1 is (3, 4, 5)", "first image is (3, 4, 4)")


def test_parquet_half_written_or_damaged(tmp_path: Path) -> None:
    file = tmp_path / "some/train.parquet"
    write_parquet(file, {"label": [0] * 9, "img": structs([image(16, 16, 3) for _ in range(9)])})
    whole = file.read_bytes()
    for content in (b"", b"PAR1", whole[:100], whole[:-1], b"<html>" * 50):
        file.write_bytes(content)
        refusal(lambda: small(tmp_path), file, "half-written", "fetch it anew")
    write_parquet(file, {"label": pa.array([], pa.int64()), "img": pa.array([], pa.struct({"bytes": pa.binary()}))})
    refusal(lambda: small(tmp_path), "no images")
    write_parquet(file, {"label": [0], "img": ["x.png"]})
    refusal(lambda: small(tmp_path), "0 columns that could be the image", "img string")
