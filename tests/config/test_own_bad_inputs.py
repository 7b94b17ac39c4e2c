"""What strangers bring and can't work: through the entry point, from a folder of their own, one line each and exit code 1."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.config import places
from tests.config.test_bad_inputs import entered

YAMLS = {  # of a recipe of one's own
    "flow": b"a: {b: ???}",
    "twice": b"defaults: [standard, _self_]\nepochs: 1\nepochs: 2",
    "list": b"- 1\n- 2",
    "bytes": b"epochs: \xff\xfe",
    "lost": b"defaults: [standart, _self_]",
    "defaults": b"defaults: standard",
    "refers": b"defaults: [standard, _self_]\nepochs: ${recipe.epoch}",
    "brace": b"defaults: [standard, _self_]\nepochs: '${unclosed'",
    "tab": b"a\tb: [",
    "empty": b"",
    "text": b"'just words'",
    "circle": b"defaults: [circle2, _self_]",
    "circle2": b"defaults: [circle, _self_]",
}

NETS = """
from torch import nn


class Needs(nn.Module):
    def __init__(self, width):
        super().__init__()


class Wide(nn.Sequential):
    def __init__(self, classes=10):
        super().__init__(nn.Flatten(), nn.Linear(64, classes))


class Two(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10], x.flatten(1)[:, :10]


class Plain:
    pass
"""
X = np.random.default_rng(0).random((30, 1, 8, 8), dtype=np.float32)
Y = np.arange(30) % 10
SMALL = ["dataset=strange", "threat.queries=5", "samples.n=8", "device=cpu", "threads=1", "store=s", "attack=noise"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    text = "{defaults: [arrays, _self_], root: ., shape: [1, 8, 8], source: {files: {test: good.npz}}}"
    (tmp_path / "conf" / "dataset" / "strange.yaml").write_text(text)
    (tmp_path / "stranger_nets.py").write_text(NETS)
    (tmp_path / "stranger_broken.py").write_text("import nothing_like_it\n")
    (tmp_path / "stranger_syntax.py").write_text("class Net(:\n")
    for name, images, labels in (
        ("good", X, Y), ("big", X.repeat(2, 2), Y), ("bright", X * 255, Y), ("words", X, Y.astype(str)),
    ):  # fmt: skip
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
    layer = {"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)}
    torch.save(layer, tmp_path / "ten.pt")
    torch.save({"1.weight": torch.zeros(7, 64), "1.bias": torch.zeros(7)}, tmp_path / "seven.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(places.VARIABLE, str(tmp_path / "conf"))
    return tmp_path


def own(name: str, *words: str, file: str = "ten.pt") -> list[str]:
    return ["model=mine", f"model.build._target_={name}", "model.own.root=.", f"model.own.file={file}", *words]


WIDE = "stranger_nets.Wide"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (own("stranger_nowhere.Net"), "_target_=stranger_nowhere.Net can't be imported"),
        (own("stranger_broken.Net"), "can't be imported (No module named 'nothing_like_it')"),
        (own("stranger_syntax.Net"), "can't be imported (invalid syntax"),
        (own("stranger_nets.Wyde"), "module stranger_nets has no Wyde; did you mean 'Wide'?"),
        (own("stranger_nets.Needs"), "missing 1 required positional argument: 'width'"),
        (own("stranger_nets.Plain"), "makes a Plain, no torch.nn.Module"),
        (own("stranger_nets.Two", file="null"), "Two answers tuple"),
        (own(WIDE, "+model.build.classes=7", file="seven.pt"), "answers 7 classes, but dataset.classes=10"),
        (own(WIDE, file="seven.pt"), "these weights are of another architecture than Wide"),
        (own(WIDE, file="gone.pt"), "no weights at "),
        (own(WIDE, "model.own.sha256=abc"), "but abc was recorded"),
        (own(WIDE, "dataset.source.files.test=big.npz"), "dataset.shape=[1, 8, 8], but its images are [1, 16, 8]"),
        (own(WIDE, "dataset.source.files.test=big.npz", "dataset.shape=[1,16,8]"), "Wide can't take images of"),
        (own(WIDE, "dataset.source.files.test=bright.npz"), "float images from 0"),
        (own(WIDE, "dataset.source.files.test=words.npz"), "they must be whole numbers 0..9"),
        (own(WIDE, "dataset.source.files.test=gone.npz"), "no data at "),
        (own(WIDE, "attack=foolbox", "attack.name=LinfPDG", "attack.chunk=8"), "did you mean 'LinfPGD'?"),
    ],
)
def test_a_strangers_bad_input_is_one_line(
    words: list[str], says: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = [word for word in SMALL if not any(word.partition("=")[0] == each.partition("=")[0] for each in words)]
    code, told = entered([*typed, *words], monkeypatch)
    lines = [line for line in told.splitlines() if line.startswith("error:")]
    assert code == 1 and len(lines) == 1 and says in lines[0] and "Traceback" not in told, told
    assert not list(folder.glob("**/part-*.parquet")) or "attack=foolbox" in words  # its clean pass was fine


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("flow", "recipe/flow.yaml, line 1, is no YAML"),
        ("twice", "recipe/twice.yaml, line 3, is no YAML: found duplicate key epochs"),
        ("list", "recipe=[1, 2] must be a group of settings"),
        ("bytes", "recipe/bytes.yaml is no UTF-8 text"),
        ("lost", "recipe/lost.yaml: its defaults name recipe/standart, which is unknown; did you mean 'standard'?"),
        ("defaults", "'recipe/defaults', defaults must be a list"),
        ("refers", "recipe.epochs refers to ${recipe.epoch}"),
        ("brace", "an interpolation can't be read"),
        ("tab", "recipe/tab.yaml, line 1, is no YAML"),
        ("empty", "recipe lacks `version`"),
        ("text", "recipe.just words is unknown"),
        ("circle", "in a circle"),
    ],
)
def test_a_yaml_of_ones_own_that_is_none_is_one_line(
    name: str, says: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "conf" / "recipe").mkdir()
    for each, content in YAMLS.items():
        (folder / "conf" / "recipe" / f"{each}.yaml").write_bytes(content)
    code, told = entered([f"recipe={name}"], monkeypatch)
    assert code == 1 and says in told and len(told.strip().splitlines()) == 1, told


def test_a_table_that_cant_be_read_is_said_before_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for group, content in (
        ("experiment", "# @package _global_\ntitle: t\ngrid:\n  - {attack: noise}\n"),
        ("tables", "tables: {a: {rows: [}}\n"),
    ):
        (folder / "conf" / group).mkdir()
        (folder / "conf" / group / "own.yaml").write_text(content)
    words = own(WIDE, *SMALL[:-1])
    code, told = entered(["+experiment=own", *words], monkeypatch)
    assert code == 1 and "can't read conf/tables/own.yaml" in told and "Traceback" not in told, told
    assert not list(folder.glob("**/part-*.parquet"))
