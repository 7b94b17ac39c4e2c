"""scripts/transformation_slope.py: central differences of g by hand, where they vanish and where not, its files, bad input."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.core.errors import BenchError
from defenses.transformation import Transform
from scripts import transformation_slope as slope
from tests.support.networks import convolutional
from tests.support.transformation import X

DIGITS = ["model@f_b.model=small_cnn", "recipe@f_b.recipe=standard_digits", "threads=1"]
FAST = ["recipe.epochs=5", "f_b.recipe.epochs=5"]  # the shipped network is both


def test_a_slope_is_a_central_difference_and_vanishes_for_small_steps() -> None:
    """g moves by signs: a step too small to turn one leaves every other pixel where it is."""
    transform, f_b, x = Transform(0.2, 4, 1 / 6, "least_likely", False), convolutional().double(), X[0].double()
    start = (torch.rand(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1) * 0.2
    pixels = [*range(0, 64, 5), 15]
    found = slope.slopes(transform, f_b, x, start, pixels)
    assert found.shape == (len(pixels), len(slope.STEPS)) and (found[:, 0] == 0).all() and (found != 0).any()
    assert slope.beside(9, 8) == 10 and slope.beside(15, 8) == 14
    for row, j in zip(found, pixels, strict=True):
        for nth in (0, 20, 32):
            ends = []
            for sign in (1, -1):
                moved = x.flatten().clone()
                moved[j] += sign * slope.STEPS[nth]
                ends.append(transform(f_b, moved.view(1, *x.shape), start[None]).flatten()[slope.beside(j, 8)])
            assert float(row[nth]) == pytest.approx(float(ends[0] - ends[1]) / (2 * slope.STEPS[nth]), abs=1e-5)


def test_it_draws_and_writes_what_it_says(tmp_path: Path, artifacts: Path) -> None:
    pytest.importorskip("matplotlib")
    said = slope.main(
        [*DIGITS, *FAST, "pairs=2", f"out={tmp_path / 'fig3'}", f"artifacts={artifacts}", "device=cpu"]
    ).splitlines()
    assert [line.split(":")[0].split()[0] for line in said[:2]] == ["pixel", "pixel"]
    assert [Path(line).suffix for line in said[2:]] == [".svg", ".png", ".csv"]
    rows = list(csv.DictReader(Path(said[-1]).read_text().splitlines()))
    assert len(rows) == 2 * len(slope.STEPS) and np.isfinite([float(row["slope"]) for row in rows]).all()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["defense=rnd"], "set defense=transformation"),
        (["image=-1"], "image=-1 must lie"),
        (["seed=0,1"], "describe 2 cells"),
    ],
)
def test_bad_input_gets_one_line(typed: list[str], said: str, artifacts: Path) -> None:
    common = [
        *(DIGITS if "defense=rnd" not in typed else DIGITS[2:]),
        "recipe.epochs=5",
        f"artifacts={artifacts}",
        "device=cpu",
    ]
    with pytest.raises(BenchError, match=said):
        slope.main([*common, *typed])
