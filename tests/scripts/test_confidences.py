"""scripts/confidences.py: what it prints is the softmax of the victim's answers; its figure; bad input."""

import re
from pathlib import Path

import pytest
import torch

from bench.assemble import networks
from bench.config import grid
from bench.core.errors import BenchError
from bench.data.samples import load
from scripts import confidences

CPU = torch.device("cpu")


def test_printed_confidences_are_the_victims_softmax(tmp_path: Path, artifacts: Path) -> None:
    common = ["threads=1", f"artifacts={artifacts}", "threat.eps=1/12", "numerics.rows=8"]
    lines = confidences.main([*common, "image=4", f"out={tmp_path / 'fig1'}"])
    assert [Path(line).suffix for line in lines[3:]] == [".svg", ".png"]
    assert all(Path(line).stat().st_size > 3000 for line in lines[3:])
    (cell,) = grid.cells([*common, "attack=fgsm"])
    test = load(cell.spec.dataset, cell.spec.samples, CPU)
    network, _ = networks.deployed(cell.spec, test, cell.runtime.artifacts)
    for line, chosen in zip(lines, confidences.VICTIMS.values(), strict=False):
        seen = confidences.look([*common, "attack=fgsm", "threat.goal=random", *chosen], 4)
        numbers = re.findall(r"class (\d+) (?:now )?([\d.]+)%", line)
        with torch.no_grad():  # GCM changes no answer by more than rounding
            soft = network(torch.stack([seen.clean, seen.attacked])).softmax(1)
        told = [(int(name), float(percent)) for name, percent in numbers]
        assert told[0][0] == int(soft[0].argmax()) and told[0][1] == pytest.approx(100 * float(soft[0].max()), abs=0.06)
        assert told[1][0] == int(soft[1].argmax()) and told[1][1] == pytest.approx(100 * float(soft[1].max()), abs=0.06)
        assert told[2][0] == seen.label and told[2][1] == pytest.approx(100 * float(soft[1, seen.label]), abs=0.06)
        assert (
            torch.equal(seen.clean, test.images([4])[0]) and (seen.attacked - seen.clean).abs().max() <= 1 / 12 + 1e-6
        )
    assert [line.split(":")[0] for line in lines[:3]] == list(confidences.VICTIMS)
    assert lines[0].partition(":")[2] == lines[2].partition(":")[2] != lines[1].partition(":")[2]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["image=99999"], "image=99999 must lie between 0 and"),
        (["attack=square"], "attack=square is no white-box attack"),
        (["seed=0,1"], "describe 2 cells"),
    ],
)
def test_bad_input_gets_one_line(typed: list[str], said: str, artifacts: Path) -> None:
    with pytest.raises(BenchError) as caught:
        confidences.main([f"artifacts={artifacts}", *typed])
    assert said in str(caught.value) and "\n" not in str(caught.value)
