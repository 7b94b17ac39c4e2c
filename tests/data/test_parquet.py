"""Hugging Face's parquet layout: small files with several shards, row groups, columns and faults."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bench.core.errors import BenchError
from bench.data import parquet as parquet_module
from bench.data.parquet import Parquet, parquet

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
    short = source.digest()  # the short form, of sizes and footers
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


def test_parquet_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte counts in a small set; in a large one sizes and footers stand for the rest."""
    file = tmp_path / "some/train.parquet"
    write_parquet(file, {"label": [0] * 3, "img": structs([image(32, 32, 3)] * 3)})
    source, whole = small(tmp_path), file.read_bytes()
    monkeypatch.setattr(parquet_module, "FOOTER", 100)
    digests = []
    for keep in (2**30, 1):
        monkeypatch.setattr(parquet_module, "KEEP", keep)
        for changed in (whole, whole[:500] + b"?" + whole[501:], whole[:500] + whole[501:]):
            file.write_bytes(changed)
            digests.append(source.digest())
    assert len(set(digests[:3])) == 3
    assert digests[3] == digests[4] != digests[5]
