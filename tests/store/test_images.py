"""keep_images: what was kept, judged again, gives the records' own answers; no key and no record depends on it."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bench.assemble import networks
from bench.assemble.networks import build_victim
from bench.config.specs import CellSpec
from bench.core import success
from bench.core.errors import BenchError
from bench.data.samples import load
from bench.run import cell
from bench.store import images
from bench.store.records import Cell

CASES = [
    ["attack=pgd"],
    ["attack=transfer_undefended", "defense=rnd"],
    ["attack=pgd", "defense=gcm", "attack/oracle=bpda"],
    ["attack=square", "threat.queries=30"],
    ["attack=square", "threat.queries=30", "defense=unig", "defense.group.size=8"],
]


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_kept_images_judged_again_fool_as_recorded(case: list[str], compose: Any, tmp_path: Path) -> None:
    common = ["samples.n=40", "numerics.rows=8", "slots=16", *case]
    config = compose(*common, "keep_images=true", f"artifacts={tmp_path / 'artifacts'}", "recipe.epochs=5")
    name = cell.run(config)
    frame = Cell(Path(config["store"]), name).frame().set_index("sample").sort_index()
    sample, image = images.load(Path(config["artifacts"]), name)
    attacked = frame[frame["clean"]]
    assert sample.tolist() == attacked.index.tolist() and image.dtype == torch.float32
    spec = CellSpec.parse(config)
    test = load(spec.dataset, spec.samples, torch.device("cpu"))
    network, _ = networks.deployed(spec, test, Path(config["artifacts"]))
    victim = build_victim(spec, network, test, Path(config["artifacts"]))
    place = {number: i for i, number in enumerate(test.numbers(list(range(len(test)))).tolist())}
    positions = [place[number] for number in sample.tolist()]
    live = torch.ones(len(sample), dtype=torch.bool)
    told = success.fresh_logits(victim, image, sample, live)
    y = test.labels(positions)
    hit = success.fooled(told, y, torch.full_like(y, -1))
    hit &= spec.threat.contains(test.images(positions), image)
    assert hit.tolist() == attacked["fooled"].tolist() and int(hit.sum()) > 0
    plain = compose(*common, f"artifacts={tmp_path / 'artifacts'}", "recipe.epochs=5", store=tmp_path / "plain")
    assert cell.run(plain) == name
    without = Cell(Path(plain["store"]), name).frame().set_index("sample").sort_index()
    pd.testing.assert_frame_equal(frame.drop(columns="seconds"), without.drop(columns="seconds"), check_exact=True)


def test_blocks_are_one_set_and_none_is_a_line(tmp_path: Path) -> None:
    image = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images.keep(tmp_path, "k", torch.tensor([7, 2]), image[:2], image[:2])
    images.keep(tmp_path, "k", torch.tensor([2, 5]), image[1:], image[1:])  # 2 again, after a kill
    sample, kept = images.load(tmp_path, "k")
    assert sample.tolist() == [2, 5, 7] and torch.equal(kept[1:], image[[2, 0]])
    assert len(list((tmp_path / "images" / "k").iterdir())) == 2
    with pytest.raises(BenchError, match="run with keep_images=true"):
        images.load(tmp_path, "other")
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"set artifacts=<another folder> or keep_images=false"):
        images.keep(tmp_path / "file", "k", torch.tensor([1]), image[:1], image[:1])
