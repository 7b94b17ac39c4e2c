"""scripts/eot_distance.py: E g(x) against a slow loop, its figure, and bad input."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.core import rng
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from scripts import eot_distance
from tests.support.networks import network
from tests.support.transformation import X, defence

NUMBERS = torch.tensor([3, 7, 1, 0, 9, 4])
DIGITS = ["model@f_b.model=small_cnn", "recipe@f_b.recipe=standard_digits", "threads=1"]


def test_the_mean_is_a_slow_loop() -> None:
    ours, net = defence(), network()
    whole, half = eot_distance.means(ours, X, NUMBERS, seed=5, draws=6)
    for i in range(len(X)):
        made = []
        for nth in range(6):
            key = Draw(5, NUMBERS[i : i + 1], torch.tensor([nth]), Stream.DEFENCE).key()
            start = (rng.uniform(key, 1, 8, 8) * 2 - 1) * 0.2
            made.append(ours.transform(net, X[i : i + 1], start)[0])
        assert torch.allclose(whole[i], torch.stack(made).mean(0), atol=1e-6)
        assert torch.allclose(half[i], torch.stack(made[:3]).mean(0), atol=1e-6)
        far = max(abs(float(v)) for v in (X[i] - torch.stack(made).mean(0)).flatten())
        assert float(eot_distance.distances(X, whole)[i]) == pytest.approx(far, abs=1e-6)
    assert torch.equal(eot_distance.means(ours, X, NUMBERS, seed=5, draws=6)[0], whole)
    one, same = eot_distance.means(ours, X, NUMBERS, seed=5, draws=1)
    assert torch.equal(one, same) and not torch.equal(one, whole)


def test_it_prints_a_distance_and_draws_fig_4(tmp_path: Path, artifacts: Path) -> None:
    options = ["images=5", "draws=3", f"out={tmp_path / 'fig4'}", f"artifacts={artifacts}"]
    said = eot_distance.main([*DIGITS, *options]).splitlines()
    assert said[0].startswith("|| x - E g(x) ||_inf: 0.") and "over 5 images and 3 draws" in said[0]
    assert [Path(line).suffix for line in said[1:]] == [".svg", ".png"]
    assert all(Path(line).stat().st_size > 3000 for line in said[1:])
    first = Path(said[1]).read_bytes()
    eot_distance.main([*DIGITS, *options])
    assert Path(said[1]).read_bytes() == first


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["defense=rnd"], "set defense=transformation"),
        (["images=0"], "images=0 must lie between 1 and"),
        (["images=99999"], "images=99999 must lie"),
        (["draws=0"], "draws=0 be at least 1"),
        (["seed=0,1"], "describe 2 cells"),
    ],
)
def test_bad_input_gets_one_line(typed: list[str], said: str, artifacts: Path) -> None:
    common: Any = [*(DIGITS if "defense=rnd" not in typed else DIGITS[2:]), f"artifacts={artifacts}"]
    with pytest.raises(BenchError) as caught:
        eot_distance.main([*common, *typed])
    assert said in str(caught.value) and "\n" not in str(caught.value)
