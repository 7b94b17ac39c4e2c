"""Data of one's own: arrays, class folders, CSVs; what is wrong with them is one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bench.config import grid
from bench.core.errors import BenchError
from bench.data import samples
from bench.data.arrays import checked
from bench.data.source import Source
from tests.support.scene import CPU

rng = np.random.default_rng(0)
X, Y = rng.integers(0, 256, (6, 3, 4, 5), dtype=np.uint8), np.array([0, 1, 2, 0, 1, 2])


def source(*words: str, root: Path) -> Source:
    (one,) = grid.cells([*words, f"dataset.root={root}", "dataset.classes=3", "dataset.shape=[3,4,5]"])
    return samples.load(one.spec.dataset, one.spec.samples, CPU).source


def _write(kind: str, folder: Path) -> str:
    if kind == "npz":
        np.savez(folder / "d.npz", images=X.transpose(0, 2, 3, 1), labels=Y)
    elif kind == "npy":
        np.save(folder / "x.npy", X)
        np.save(folder / "y.npy", Y)
        return "[x.npy,y.npy]"
    elif kind == "pt":
        torch.save((torch.from_numpy(X), torch.from_numpy(Y)), folder / "d.pt")
    else:
        save_file({"x": torch.from_numpy(X).float() / 255, "y": torch.from_numpy(Y)}, folder / "d.safetensors")
    return f"d.{kind}"


@pytest.mark.parametrize("kind", ["npz", "npy", "pt", "safetensors"])
def test_arrays_are_read_as_they_are(kind: str, tmp_path: Path) -> None:
    found = source("dataset=arrays", f"dataset.source.files.test={_write(kind, tmp_path)}", root=tmp_path)
    pixels = found.pixels(torch.arange(6))
    assert torch.equal((pixels * 255).round().byte() if pixels.is_floating_point() else pixels, torch.from_numpy(X))
    assert found.labels.tolist() == Y.tolist() and len(found.digest()) == 64


def test_class_folders_and_csv_hold_the_same_pictures(tmp_path: Path) -> None:
    lines = ["path,label"]
    for i, label in enumerate(Y):
        folder = tmp_path / "val" / ["ant", "bee", "cat"][label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[i].transpose(1, 2, 0)).save(folder / f"{i}.png")
        lines.append(f"val/{folder.name}/{i}.png,{folder.name}")
    (tmp_path / "all.csv").write_text("\n".join(lines))
    plain = ["dataset.source.resize=null", "dataset.source.crop=null"]
    folders = source("dataset=folders", "dataset.source.folders.test=val", *plain, root=tmp_path)
    words = ["dataset=csv", "dataset.source.files.test=all.csv", *plain]
    listed = source(*words, "dataset.source.class_list=[ant,bee,cat]", root=tmp_path)
    assert torch.equal(listed.pixels(torch.arange(6)), torch.from_numpy(X)) and listed.labels.tolist() == Y.tolist()
    order = folders.labels.argsort(stable=True)
    assert torch.equal(folders.pixels(order), torch.from_numpy(X)[torch.tensor(Y).argsort(stable=True)])
    with pytest.raises(BenchError, match=r"line 2 has label 'ant'; labels are whole numbers"):
        source(*words, root=tmp_path)
    with pytest.raises(BenchError, match=r"line 2 has label 'ant'; did you mean 'ants'"):
        source(*words, "dataset.source.class_list=[ants,bee,cat]", root=tmp_path)
    with pytest.raises(BenchError, match=r"has no column file; there are: label, path"):
        source(*words, "dataset.source.path=file", root=tmp_path)
    with pytest.raises(BenchError, match=r"3 class folders ant, bee, cat; dataset\.classes=3"):
        source("dataset=folders", "dataset.source.folders.test=val", "dataset.source.class_list=[a,b,c]", root=tmp_path)


@pytest.mark.parametrize(
    ("x", "y", "says"),
    [
        (X / 128, Y, r"float images from 0.* to 1\.9.*; scale them to \[0, 1\]"),
        (X / 255 - 0.5, Y, r"float images from -0\.5"),
        (np.where(X > 9, np.nan, 0.5), Y, "float images from nan"),
        (X.astype(np.int64), Y, "images of torch.int64; they must be uint8"),
        (X, np.array(list("abcabc")), "labels are <U1 of shape .*'a'.*whole numbers 0..2"),
        (X, Y[:4], "6 images but 4 labels"),
        (X, Y + 1, r"label 3, outside 0\.\.2"),
        (X[0, 0], Y, r"images of shape \(4, 5\)"),
    ],
)
def test_what_is_wrong_is_one_line(x: Any, y: Any, says: str) -> None:
    with pytest.raises(BenchError, match=says) as caught:
        checked(x, y, 3, "mine")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["dataset.source.files.test=gone.npz"], r"no data at .*gone\.npz"),
        (["dataset.source.files.test=data.mat"], r"files of arrays end in \.npz"),
        ([], r"names no test images; set dataset\.source\.files\.test"),
        (["dataset.source.files.test=odd.npz"], r"odd\.npz holds pixels; it needs images and labels"),
        (["dataset.source.files.test=bad.npz"], r"bad\.npz is half-written"),
    ],
)
def test_the_error_says_what_was_looked_for(words: list[str], says: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", pixels=X)
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(BenchError, match=says):
        source("dataset=arrays", *words, root=tmp_path)
