"""RayS: all queries of the pseudo-code, a radius that never grows, and records that do not depend on slots."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from attacks.query.rays import Rays
from bench.core.rng import Stream, keys
from bench.core.threat import Threat
from bench.run import cell
from bench.store.records import Cell
from tests.support.scene import Scene

HALF = 2.0**-10  # halves of 1 are exact in float32


def rays(queries: int) -> Rays:
    return Rays(Threat("linf", Fraction("1/100000"), queries, "label", "untargeted"), HALF)


def slow(label_of: Any, x: Tensor, y: int, budget: int) -> list[Tensor]:
    """Algorithm 3 for one image, one question after another -> all its queries."""
    asked: list[Tensor] = []
    best, reach, d = torch.ones(x.numel()), 1.0, x.numel()

    def fools(signs: Tensor, radius: float) -> bool:
        asked.append(torch.addcmul(x, torch.tensor(radius), signs.view_as(x)).clamp(0, 1))
        return label_of(asked[-1]) != y

    while True:
        level, chunk = 0, d
        while True:
            for start in range(0, d, chunk):
                trial = best.clone()
                trial[start : start + chunk] *= -1
                near = fools(trial, reach)
                low, high = 0.0, reach
                while near and len(asked) < budget:
                    middle = (low + high) / 2
                    low, high = (low, middle) if fools(trial, middle) else (middle, high)
                    if high - low <= HALF:
                        best, reach, near = trial, high, False
                if len(asked) >= budget:
                    return asked[:budget]
            if chunk == 1:
                break
            level += 1
            chunk = -(-d // 2**level)


@torch.no_grad()
def test_asks_what_a_slow_version_asks(digits: Scene) -> None:
    x, y, attack = digits.x[:20], digits.y[:20], rays(400)  # more than the 127 flips of one pass over 64 pixels
    state, ours, reach = attack.start(x, y, y, keys(0, Stream.ATTACK, y)), [], []
    for _ in range(400):
        ours.append(attack.query(state))
        reach.append(state.radius)
        state = attack.observe(state, ours[-1], digits.network(ours[-1]).argmax(1))
    whole = torch.stack(ours, 1)
    assert whole.min() >= 0 and whole.max() <= 1
    course = torch.stack(reach, 1)
    assert (course.diff(dim=1) <= 0).all() and (course[:, -1] < 0.3).any()
    same = 0
    for i in range(20):

        def label_of(image: Tensor, at: int = i) -> int:
            batch = x.clone()  # the same row of as many: the same float32 logits
            batch[at] = image
            return int(digits.network(batch).argmax(1)[at])

        theirs = torch.stack(slow(label_of, x[i], int(y[i]), 400))
        same += bool((theirs - whole[i]).abs().max() <= 1e-7)  # one place of float32: every decision is the same
    assert same >= 18  # a search ends at the boundary, where that one place may decide


def frame_of(config: dict[str, Any]) -> pd.DataFrame:
    return Cell(Path(config["store"]), cell.run(config)).frame().drop(columns=["seconds"])


@pytest.mark.parametrize("defense", ["none", "rnd"])
def test_records_do_not_depend_on_slots(defense: str, compose: Any, tmp_path: Path) -> None:
    common = [
        "attack=rays",
        "samples.n=40",
        "threat.queries=150",
        "numerics.rows=8",
        "recipe.epochs=5",
        "threat.feedback=label",
    ]
    common += [f"defense={defense}", "threat.eps=1/8"]
    reference = frame_of(compose(*common, "slots=64"))
    assert 5 < reference["fooled"].sum() < 40
    for slots in (8, 24):
        again = frame_of(compose(*common, f"slots={slots}", store=tmp_path / f"slots{slots}"))
        pd.testing.assert_frame_equal(reference, again, check_exact=True)
