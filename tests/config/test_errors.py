"""Bad input gets one clear line and a non-zero exit, and nothing that was finished is lost."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from bench.assemble import accuracy_check
from bench.config import grid
from bench.config.specs import CellSpec
from bench.core.errors import BenchError
from bench.run import cell, context
from bench.store import parts
from bench.store.records import Cell
from tests.support import shipped

ROOT = Path(__file__).resolve().parents[2]


def bench(*typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *typed], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def test_the_command_line_answers_with_one_line_and_exit_code_1() -> None:
    wrong = bench("attack=sqare")
    assert wrong.returncode == 1 and wrong.stderr.strip() == "error: attack=sqare is unknown; did you mean 'square'?"
    assert bench("threat.eps=8").stderr.strip().endswith("write it as a fraction of 1: eps=8/255")


def test_a_stop_by_hand_is_one_line_and_loses_nothing(tmp_path: Path, artifacts: Path) -> None:
    typed = [
        *shipped.DIGITS, "samples.n=300", "threat.queries=40000", "threads=1", f"store={tmp_path}", f"artifacts={artifacts}",
    ]  # fmt: skip
    config = grid.cells(typed)[0].config
    cell.run(config | {"attack": {"_target_": None}})  # the clean pass
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *typed],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    folder, waited = tmp_path / "cells" / grid.cells(typed)[0].key, 0.0
    while not list(folder.glob("part-*")) and waited < 240:  # those that are wrong when clean come first
        time.sleep(0.5)
        waited += 0.5
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command goes on" in told and "Traceback" not in told
    kept = Cell(tmp_path, grid.cells(typed)[0].key).frame()
    assert 0 < kept["fooled"].sum() < 300  # finished in less than the half minute after which a part is due


def test_an_attack_is_not_begun_on_another_networks_clean_pass(compose, tmp_path: Path) -> None:
    config = compose("samples.n=16", "attack=none", store=tmp_path / "store")
    cell.run(config)
    (folder,) = (tmp_path / "store" / "cells").iterdir()
    part = next(folder.glob("part-*.parquet"))
    found = parts.read(part, folder.name)
    name, content = parts.encode(found.table(), found.about | {"weights": "0" * 64})
    part.unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(BenchError, match="was begun with weights sha256 000000000000"):
        cell.run(compose("samples.n=16", "threat.queries=5", store=tmp_path / "store"))


def test_a_setting_of_swept_attacks_that_the_default_one_lacks(tmp_path: Path, artifacts: Path) -> None:
    """Hydra itself composes without the sweep, where Square has no steps."""
    words = ["attack=pgd,mifgsm", "attack.steps=2", "title='a ~ {b}, ${seed}'", "samples=4", "device=cpu", "threads=1"]
    words += [f"store={tmp_path}", f"artifacts={artifacts}", "hydra.sweeper.fail_fast=true", *shipped.DIGITS]
    done = bench(*words)
    assert done.returncode == 0 and "2 cells, 2 to run" in done.stderr, done.stderr
    (log,) = (tmp_path / "logs").glob("*.log")
    assert log.read_text().splitlines()[0] == "$ " + shlex.join(["python", "-m", "bench", *words])
    commands = [yaml.safe_load(path.read_text())["command"] for path in tmp_path.glob("cells/*/cell.yaml")]
    assert commands and not [command for command in commands if "hydra" in command]


def test_a_failed_cell_does_not_stop_the_others(tmp_path: Path, artifacts: Path) -> None:
    done = bench(
        *shipped.DIGITS,
        "defense.input_noise=-1,0.02",
        "defense=rnd",
        "samples.n=20",
        "threat.queries=5",
        f"store={tmp_path}",
        f"artifacts={artifacts}",
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "input_noise=-1" in errors[0]
    assert "Traceback" not in done.stderr and "input_noise=0.02" in done.stdout


def test_help_and_cfg_need_no_torch() -> None:
    shown = bench("--help")
    assert shown.returncode == 0 and "defense: " in shown.stdout
    config = bench("--cfg", "job", "defense=rnd")
    assert config.returncode == 0 and "input_noise: 0.02" in config.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_cuda_without_a_gpu_is_an_error(compose) -> None:
    with pytest.raises(BenchError, match="device=cuda, but 0 CUDA devices are visible"):
        cell.run(compose("device=cuda"))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["samples.n=501"], "samples.n=501, but the data set has 500"),
        (["shard=0/3"], "shard=0/3 must be"),
        (["shard=3"], "shard=3 must be"),
        (["slots=65"], "slots=65 must be a multiple of numerics.rows=64"),
        (["numerics.dtype=float8"], "numerics.dtype=float8 is unknown"),
        (["device=tpu"], "device=tpu"),
        (["dataset=cifar10_jpeg", "dataset.root=/nowhere"], "/nowhere/cifar10-jpeg/test.parquet"),
        (["dataset=mnist_parquet", "dataset.root=null"], "BENCH_DATA"),
        (["attack.p_init=0"], "p_init=0"),
        (["threat.norm=l1"], "square has no threat.norm=l1"),
        (["defense=unig", "defense.group.neighbours=go"], "leave, stay, companions"),
        (["dataset.shape=[1,9,9]"], r"dataset.shape=\[1, 9, 9\]"),
    ],
)
def test_bad_settings_are_one_line(overrides: list[str], line: str, compose) -> None:
    with pytest.raises(BenchError, match=line) as caught:
        cell.run(compose(*overrides))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["attack.p_init=abc"], r"attacks\.query\.square\.Square\.p_init=abc must be a number"),
        (["attack.p_init=4/5"], r"p_init=4/5 must be a number"),
        (["recipe.lr=fast"], r"recipe\.lr=fast must be a number"),
        (["+recipe.images=few"], r"recipe\.images=few must be a whole number"),
        (["recipe.epochs=2.5"], r"recipe\.epochs=2\.5 must be a whole number"),
        (["recipe.batch=0"], r"recipe\.batch=0 must be at least 1"),
        (["numerics.rows=abc"], r"numerics\.rows=abc must be a whole number"),
        (["numerics.rows=0"], r"numerics\.rows=0 must be at least 1"),
        (["attack=pgd", "attack.early_stop=maybe"], r"Pgd\.early_stop=maybe must be true or false"),
        (["attack=pgd", "attack.steps=2.5"], r"Pgd\.steps=2\.5 must be a whole number"),
    ],
)
def test_a_word_for_a_number_is_named(overrides: list[str], line: str, compose) -> None:
    with pytest.raises(BenchError, match=line):
        cell.run(compose(*overrides))


def test_wrong_architecture_and_wrong_number_of_classes(compose, bench_weights: Path) -> None:
    f_b = ["model=vgg_fb_adv", f"model.build.root={bench_weights}"]
    with pytest.raises(BenchError):
        cell.run(compose(*f_b))  # 3 x 32 x 32 on digits
    with pytest.raises(BenchError, match="another architecture"):
        cell.run(
            compose(
                "model=vgg_fb_adv",
                f"model.build.root={bench_weights}",
                "model.build.file=tf_efficientnet_lite0.safetensors",
                "model.build.sha256=null",
            )
        )


def frame_of(config: dict[str, Any]) -> pd.DataFrame:
    return Cell(Path(config["store"]), cell.run(config)).frame().drop(columns=["seconds"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_an_image_without_finite_logits_is_recorded_and_the_rest_goes_on(
    value: float, compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its clean pass on, or from some query on: neither right nor fooled, and no other record changes."""
    reference = frame_of(compose("samples.n=40", "threat.queries=60", "numerics.rows=8"))
    clean, late = int(reference["sample"][3]), int(reference.loc[reference["queries"] == 60, "sample"].iloc[0])
    original = cell.build_victim

    def broken(*given: Any) -> Any:
        victim = original(*given)
        forward = victim.defense.forward

        def sometimes(x: torch.Tensor, draw: Any) -> torch.Tensor:
            bad = (draw.sample == clean) | ((draw.sample == late) & (draw.nth == 20))
            return torch.where(bad[:, None], value, forward(x, draw))

        victim.defense.forward = sometimes
        return victim

    monkeypatch.setattr(cell, "build_victim", broken)
    ours = frame_of(compose("samples.n=40", "threat.queries=60", "numerics.rows=8", store=tmp_path / "other"))
    ours = ours.set_index("sample")
    assert ours["undefined"].sum() == 2 and ours.loc[[clean, late], "undefined"].all()
    assert not ours.loc[clean, "clean"] and ours.loc[clean, "queries"] == 0
    assert not ours.loc[late, "fooled"] and ours.loc[late, "queries"] == 21
    others = [sample for sample in reference["sample"] if sample not in (clean, late)]
    pd.testing.assert_frame_equal(ours.loc[others], reference.set_index("sample").loc[others], check_exact=True)


def test_a_network_that_answers_no_finite_logits_at_all_is_one_line(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    from defenses.none import Undefended

    monkeypatch.setattr(Undefended, "forward", lambda self, x, draw: self.model(x) * float("nan"))
    with pytest.raises(BenchError, match="NaN or inf logits for every image of its first call"):
        cell.run(compose("samples.n=10"))


def test_queries_outside_0_1_are_refused(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    from attacks.query.square import Square

    query = Square.query
    monkeypatch.setattr(Square, "query", lambda self, s: query(self, s) + 0.5)
    with pytest.raises(BenchError, match=r"images outside \[0, 1\]: samples \d+"):
        cell.run(compose("samples.n=10"))


def test_rows_that_depend_on_each_other_undeclared_are_refused(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    from defenses.none import Undefended

    monkeypatch.setattr(Undefended, "forward", lambda self, x, draw: self.model(x) + self.model(x)[:1])
    with pytest.raises(BenchError, match="declare Traits"):
        cell.run(compose("samples.n=10"))


def test_a_full_disk_is_one_line_and_keeps_what_was_finished(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("samples.n=60", "threat.queries=50", "numerics.rows=8", "slots=8")
    monkeypatch.setattr(context, "PART_ROWS", 10)
    real, writes = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes > 18:  # a file and its folder take two
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BenchError, match="the disk is full"):
        cell.run(config)
    monkeypatch.undo()
    kept = Cell(Path(config["store"]), CellSpec.parse(config).key)
    finished = len(kept.frame())
    assert 0 < finished < 60 and not list(kept.folder.glob(".tmp-*"))
    cell.run(config)
    assert len(kept.frame()) == 60


def test_a_read_only_store_is_one_line(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run as root here, whom a read-only folder doesn't stop, so the error is raised for it."""

    def refused(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    config = compose("samples.n=10")
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(BenchError, match=r"Read-only file system.*store="):
        Cell(Path(config["store"]), "0").describe({"a": 1})


def test_other_data_or_weights_are_refused(compose) -> None:
    config = compose("samples.n=20", "threat.queries=5")
    record = Cell(Path(config["store"]), cell.run(config))
    rows = [{"sample": 1, "position": 99, "label": 0, "clean": True, "fooled": False}]
    with pytest.raises(BenchError, match="was begun with weights sha256"):
        record.append(rows, record.made() | {"weights": "0" * 64})
    with pytest.raises(BenchError, match="was begun with data sha256"):
        record.append(rows, record.made() | {"data": "0" * 64})
    record.append([rows[0] | {"position": 1}, rows[0] | {"position": 1, "fooled": True}], record.made())
    with pytest.raises(BenchError, match="two different records of sample 1"):
        record.frame()


def test_a_broken_part_is_named(compose) -> None:
    config = compose("samples.n=20", "threat.queries=5")
    record = Cell(Path(config["store"]), cell.run(config))
    (part,) = record.parts()
    part.write_bytes(part.read_bytes()[:200])
    with pytest.raises(BenchError, match=r"part-\w+\.parquet is damaged: .*set aside"):
        record.frame()


def test_weights_that_answer_otherwise_than_before_are_refused(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("samples.n=20", "threat.queries=5", "seed=0")
    cell.run(config)
    monkeypatch.setattr(accuracy_check, "accuracy", lambda *_: 0.5)
    with pytest.raises(BenchError, match=r"got 9\d\.\d% of 200 clean samples when first used and 50\.0% now"):
        cell.run(compose("samples.n=30", "threat.queries=5"))
