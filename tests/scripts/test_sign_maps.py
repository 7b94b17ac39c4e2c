"""scripts/sign_maps.py: the bare network's signs, GCM's by its derivative in closed form, BPDA's; its figure; bad input."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from bench.assemble import networks
from bench.config import grid
from bench.core.errors import BenchError
from bench.data.samples import load
from scripts import sign_maps
from tests.support.shipped import DIGITS


def test_maps_are_those_of_the_closed_forms(
    tmp_path: Path, artifacts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [*DIGITS, "threads=1", f"artifacts={artifacts}", "numerics.rows=8"]
    maps = sign_maps.signs(common, 3)
    (cell,) = grid.cells(common)
    test = load(cell.spec.dataset, cell.spec.samples, torch.device("cpu"))
    network, _ = networks.deployed(cell.spec, test, cell.runtime.artifacts)
    x = test.images([3]).requires_grad_()
    slope = -torch.autograd.grad(F.cross_entropy(network(x), test.labels([3])), x)[0][0]  # of what the attacker lowers
    sure = slope.abs() > 1e-6
    assert sure.sum() > 20
    assert torch.equal(maps["bare network"][sure], slope.sign()[sure])
    assert torch.equal(maps["BPDA"][sure], slope.sign()[sure])
    factor = 1 + 1e-8 * 1e20 * torch.cos(1e20 * x.detach()[0])  # the derivative of x + eps sin(w x)
    assert torch.equal(maps["through GCM"][sure], (slope * factor).sign()[sure])
    sign_maps.main([*common, "image=3", f"out={tmp_path / 'signs'}"])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("bare network: 0.0%") and told[2].startswith("BPDA: 0.0%")
    flipped = float(told[1].split(": ")[1].split("%")[0])
    assert 5 < flipped < 95
    assert all((tmp_path / f"signs{end}").stat().st_size > 2000 for end in (".png", ".svg"))


def test_bad_input_gets_one_line(artifacts: Path) -> None:
    with pytest.raises(BenchError, match="image=99999 must lie between 0 and"):
        sign_maps.signs([*DIGITS, f"artifacts={artifacts}"], 99999)
