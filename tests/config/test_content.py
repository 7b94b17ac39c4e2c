"""Other content is another cell: weights files by what they hold, a user's own code by its source, data before it is reused."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.config import content, grid
from bench.data import samples
from bench.models.vgg import vgg_fb
from bench.run import cell, same_data

FB = ["dataset=cifar10_jpeg", "model=vgg_fb_adv", "attack=none"]


def weights(file: Path, scale: float) -> Path:
    """f_b's checkpoint with its first layer scaled."""
    state = vgg_fb(10, [3, 32, 32]).state_dict()
    names = {f"features.{name}": tensor for name, tensor in state.items()}
    save_file({name: tensor.float() * scale for name, tensor in names.items()}, file)
    return file


def key_of(*words: str) -> str:
    (one,) = grid.cells([*FB, "~model.build.sha256", *words])
    return one.key


def test_a_file_counts_by_what_it_holds_and_not_by_where_it_lies(tmp_path: Path) -> None:
    a, b = weights(tmp_path / "a.safetensors", 1.0), weights(tmp_path / "b.safetensors", 2.0)
    first = key_of(f"model.build.file={a}")
    assert first != key_of(f"model.build.file={b}")
    moved = tmp_path / "elsewhere" / "c.safetensors"
    moved.parent.mkdir()
    moved.write_bytes(a.read_bytes())
    assert first == key_of(f"model.build.root={moved.parent}", "model.build.file=c.safetensors")
    weights(a, 3.0)  # overwritten
    assert first != key_of(f"model.build.file={a}")


def test_a_sweep_over_two_files_is_two_cells(tmp_path: Path) -> None:
    a, b = weights(tmp_path / "a.safetensors", 1.0), weights(tmp_path / "b.safetensors", 2.0)
    cells = grid.cells([*FB, "~model.build.sha256", f"model.build.file={a},{b}"])
    assert len({each.key for each in cells}) == 2


def test_with_a_declared_sha256_the_place_is_only_a_place(tmp_path: Path) -> None:
    here, there = (grid.cells([*FB, f"model.build.root={tmp_path / name}"])[0].key for name in ("x", "y"))
    assert here == there


def test_a_methods_own_parameter_named_file_stays_in_the_key() -> None:
    one, two = (grid.cells(["+defense.file=" + name, "attack=none"])[0].key for name in ("a", "b"))
    assert one != two
    one, two = (grid.cells(["+attack.root=" + name])[0].key for name in ("a", "b"))
    assert one != two


def test_code_outside_the_project_counts_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "my_own_defence.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = []
    for text in ("LEVEL = 1\n", "LEVEL = 22\n"):
        module.write_text(text)
        content._module_file.cache_clear()
        keys.append(grid.cells(["defense._target_=my_own_defence.Mine", "attack=none"])[0].key)
    sys.modules.pop("my_own_defence", None)
    assert keys[0] != keys[1]
    assert content.of_source("defenses.rnd.Rnd") is None and content.of_source("torch.nn.Linear") is None
    assert content.of_source("no_such_module.Thing") is None


def test_a_complete_cell_of_other_data_is_named(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("attack=none", "samples.n=20")
    cell.run(config)
    overrides = ["attack=none", "samples.n=20", f"store={config['store']}", f"artifacts={config['artifacts']}"]
    from tests.support import shipped

    (one,) = grid.cells([*overrides, "threat.eps=1/12", *shipped.DIGITS])
    assert same_data.contradictions([one]) == []
    original = samples.split_of

    def relabelled(*given):
        source = original(*given)
        return replace(source, labels=torch.roll(source.labels, 1))

    monkeypatch.setattr(samples, "split_of", relabelled)
    (line,) = same_data.contradictions([one, one])
    assert one.key in line and "was made of data sha256" in line and "\n" not in line
