"""Tiny ImageNet and ImageNet, small ones written in the official layouts."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench.core.errors import BenchError
from bench.data.folder import imagenet, tiny_imagenet

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


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, kind)
    return stored.getvalue()


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
    for synset, sizes in {"n00000002": [(80, 60), (60, 90)], "n00000001": [(70, 70)]}.items():
        (place / synset).mkdir(parents=True)
        for i, size in enumerate(sizes):
            (place / synset / f"{i}.JPEG").write_bytes(encoded(image(*size, 3), "JPEG"))
    (place / "n00000001" / "grey.JPEG").write_bytes(encoded(image(64, 64), "JPEG"))


@pytest.mark.parametrize("below", ["imagenet/val", "val"])
def test_imagenet(tmp_path: Path, below: str) -> None:
    write_imagenet(tmp_path / below)
    source = imagenet(tmp_path, "test", 2, resize=50, crop=40)
    assert source.labels.tolist() == [0, 0, 1, 1]
    assert source.files == ["n00000001/0.JPEG", "n00000001/grey.JPEG", "n00000002/0.JPEG", "n00000002/1.JPEG"]
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
    refusal(lambda: mixed.pixels(torch.tensor([2])), place / "n00000002/0.JPEG", "(3, 80, 60)", "(3, 70, 70)")
    refusal(
        lambda: imagenet(tmp_path, "test", 2, crop=65).pixels(torch.tensor([1])), "grey.JPEG", "crop of 65", "resize"
    )
    source, file = imagenet(tmp_path, "test", 2, resize=50, crop=40), place / "n00000002/1.JPEG"
    file.write_bytes(file.read_bytes()[:300])
    refusal(lambda: source.pixels(torch.tensor([0, 3])), file, "damaged")
    file.write_bytes(b"<html>")
    refusal(lambda: source.pixels(torch.tensor([3])), file, "no image")
    file.unlink()
    refusal(lambda: source.pixels(torch.tensor([3])), file, "is missing")


def numbered(place: Path, names: list[str]) -> None:
    for name in names:
        (place / name).mkdir(parents=True)
        (place / name / "0.JPEG").write_bytes(encoded(image(8, 8, 3), "JPEG"))


@pytest.mark.parametrize("width", [1, 4])
def test_class_folders_that_are_numbers_are_in_the_order_of_numbers(tmp_path: Path, width: int) -> None:
    """As text 10 comes before 2: with ImageNet's 1000 classes 95 of 100 labels were wrong, without a word."""
    numbered(tmp_path / "val", [f"{k:0{width}d}" for k in range(12)])
    source = imagenet(tmp_path, "test", 12)
    assert [int(file.partition("/")[0]) for file in source.files] == source.labels.tolist() == list(range(12))


def test_class_folders_of_other_names_need_a_list(tmp_path: Path) -> None:
    numbered(tmp_path / "val", ["zebra", "cat", "10"])
    refusal(lambda: imagenet(tmp_path, "test", 3), "'cat'", "class_list")
    (tmp_path / "classes.txt").write_text("zebra\n10\ncat\n")
    source = imagenet(tmp_path, "test", 3, class_list="classes.txt")
    assert source.files == ["zebra/0.JPEG", "10/0.JPEG", "cat/0.JPEG"] and source.labels.tolist() == [0, 1, 2]
    (tmp_path / "classes.txt").write_text("zebra\n10\ndog\n")
    refusal(lambda: imagenet(tmp_path, "test", 3, class_list="classes.txt"), "cat, dog", "differ")
    (tmp_path / "classes.txt").write_text("zebra\n10\ncat\ncat\n")
    refusal(lambda: imagenet(tmp_path, "test", 3, class_list="classes.txt"), "twice")
    refusal(lambda: imagenet(tmp_path, "test", 3, class_list="none.txt"), "none.txt")
    (tmp_path / "val/zebra").rename(tmp_path / "val/011")
    (tmp_path / "val/cat").rename(tmp_path / "val/11")
    refusal(lambda: imagenet(tmp_path, "test", 3), "two class folders of one number")
