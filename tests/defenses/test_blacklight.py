"""Blacklight: what it refuses is what a slow single-image version refuses; an attacker who adapts breaks more."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attacks.query.oars import Oars
from attacks.query.rays import Rays
from attacks.query.square import Square
from bench.audit import facts
from bench.config.runtime import RuntimeSpec
from bench.config.specs import CellSpec
from bench.core import rows
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.threat import Threat
from bench.core.traits import Traits
from bench.core.victim import FixedRows, Ledger, Victim, check_rows
from bench.report.metrics import attacked as metrics
from bench.report.records import Attacked
from bench.run import loop, slots
from defenses.blacklight import Blacklight, shared
from tests.support.cells import Compose
from tests.support.scene import CPU, Scene

N = 24
THREAT = Threat("linf", Fraction(1, 12), 120, "logits", "untargeted")


def blacklight(scene: Scene, **changes: Any) -> Blacklight:
    fixed = FixedRows(scene.network, 16, torch.float32, Ledger(len(scene.y), CPU))
    return Blacklight(fixed, **({"window": 8, "hashes": 64, "step": 50, "threshold": 25} | changes))


class Watched(Blacklight):
    """Remembers what each sample's attacker asked."""

    asked: dict[int, dict[int, Tensor]]

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        for image, sample, nth in zip(x, draw.sample.tolist(), draw.nth.tolist(), strict=True):
            self.asked[sample][nth] = image.clone()
        return super().forward(x, draw)


def play(scene: Scene, make: Callable[[], Any], in_flight: int = 16) -> tuple[slots.Finished, Watched]:
    fixed = FixedRows(scene.network, 16, torch.float32, Ledger(len(scene.y), CPU))
    defence = Watched(fixed, window=8, hashes=64, step=50, threshold=25)
    defence.asked = defaultdict(dict)
    todo = slots.Todo(
        torch.arange(len(scene.y)), scene.x, scene.y, torch.full_like(scene.y, -1), torch.ones_like(scene.y) > 0
    )
    looks = loop.run(Victim(defence, fixed, 0), make(), THREAT, loop.Feed(iter([todo])), in_flight)
    found = rows.cat([look.finished for look in looks if look.finished is not None])
    return rows.take(found, found.sample.argsort()), defence


def windows_of(image: Tensor) -> set[tuple[int, ...]]:
    grey = np.rint(image.numpy().transpose(1, 2, 0).reshape(-1).astype(np.float64) * 255 / 50).astype(int)
    return {tuple(grey[i : i + 8]) for i in range(len(grey) - 7)}


def square() -> Square:
    return Square(THREAT, 0.8, "margin", None)


def oars() -> Oars:
    return Oars(THREAT, 0.8, "margin", None)


@pytest.mark.parametrize("make", [square, oars], ids=["square", "oars"])
def test_what_is_refused_is_what_a_slow_version_refuses(make: Callable[[], Any], digits: Scene) -> None:
    """Sets of windows, one image after the other: no hash, no batch, no memory but this conversation's."""
    some = digits.first(N)
    found, defence = play(some, make)
    for sample in range(N):
        asked = [defence.asked[sample][nth] for nth in range(int(found.queries[sample]))]
        seen, refused = list[set[tuple[int, ...]]](), list[int]()
        for nth, image in enumerate(asked, 1):
            now = windows_of(image)
            if any(len(now & before) > 25 for before in seen):
                refused.append(nth)
            seen.append(now)
        assert int(found.refused[sample]) == len(refused)
        assert int(found.first_refused[sample]) == (refused[0] if refused else -1)
        if found.fooled[sample]:
            assert len(asked) not in refused, "a refused image is no success"
    assert (found.first_refused > 0).any() and (found.refused < found.queries).all()
    other, _ = play(some, make, in_flight=32)
    for name in ("queries", "refused", "first_refused", "fooled", "margin"):
        assert torch.equal(getattr(found, name), getattr(other, name)), name


def test_clean_images_are_not_taken_for_one_another(digits: Scene) -> None:
    prints = blacklight(digits, hashes=50).fingerprints(digits.x)
    assert max(int(shared(one, prints[:i]).max()) for i, one in enumerate(prints) if i) <= 25
    assert (shared(prints[0], prints[:1]) == 50).all()


def test_an_attack_that_adapts_breaks_more(digits: Scene) -> None:
    some = digits.first(70)
    bare = some.play(square(), THREAT)
    (plain, _), (adaptive, _) = play(some, square), play(some, oars)
    assert plain.fooled.sum() < adaptive.fooled.sum() < bare.fooled.sum()
    assert adaptive.refused.sum() / adaptive.queries.sum() < 0.75 < plain.refused.sum() / plain.queries.sum()
    labels, _ = play(digits.first(N), lambda: Rays(THREAT, 1e-3))
    assert (labels.first_refused > 0).all() and labels.fooled.sum() <= 2


def test_it_remembers_the_attackers_conversation_and_nothing_else(digits: Scene) -> None:
    defence, x, number = blacklight(digits), digits.x[:4], torch.arange(4)
    nth = torch.zeros_like(number)
    ask = Draw(0, number, nth, Stream.DEFENCE)
    first = defence(x, ask)
    assert torch.equal(first, defence(x, ask)), "the same query again is the same query: rows that fill up a call"
    assert defence(x, ask._replace(nth=nth + 1)).isnan().all()
    assert torch.equal(defence(x, Draw(0, number + 4, nth, Stream.DEFENCE)), first), "another sample's conversation"
    assert defence(x, Draw(0, number, nth + 1, Stream.JUDGE)).isfinite().all()
    defence.reset()
    assert torch.equal(defence(x, ask._replace(nth=nth + 1)), first)
    check_rows(Victim(defence, defence.model, 0), x, number)
    leaf = x.clone().requires_grad_()
    ours = defence.approximate(leaf, ask._replace(nth=nth + 9), "identity")
    assert torch.equal(ours.detach(), digits.network(torch.cat([x, x[:1].expand(12, -1, -1, -1)]))[:4])


def test_its_metrics() -> None:
    attacked = Attacked.of(
        {
            "sample": np.arange(5), "position": np.arange(5), "clean": np.array([True, True, True, True, False]),
            "fooled": np.array([False, True, False, False, False]), "queries": np.array([9.0, 4, 9, 9, 0]),
            "first_refused": np.array([2.0, np.nan, 6, 7, np.nan]), "refused": np.array([5.0, 0, 1, 1, 0]),
        }
    )  # fmt: skip
    assert metrics.detected(attacked).value == 75 and metrics.queries_until_detected(attacked).value == 6
    assert metrics.detected(attacked.within(6)).value == 50
    answers_all = replace(attacked, first_refused=np.full(5, np.nan))
    assert metrics.detected(answers_all).value == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"window": 0}, "defense.window=0"), ({"threshold": 64}, "below hashes"),
        ({"window": 99}, "defense.window=99 is longer than an image of 64 numbers"),
    ],
)  # fmt: skip
def test_bad_settings_are_one_line(changes: dict[str, Any], said: str, digits: Scene) -> None:
    with pytest.raises(BenchError, match=said):
        blacklight(digits, **changes).fingerprints(digits.x[:1])
    with pytest.raises(BenchError, match=r"attack.grow=1"):
        Oars(THREAT, 0.8, "margin", None, grow=1.0)


def test_the_audit_sees_that_it_remembers_its_attacker(
    compose: Compose, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose("defense=blacklight", "defense.window=8", "samples.n=16", "threads=1")
    spec, runtime = CellSpec.parse(config), RuntimeSpec.parse(config)
    found = facts.find(spec, runtime)
    assert found.refuses and found.traits["stateful"]
    assert any("once its attacker has asked the same image" in note for note in found.notes)
    monkeypatch.setattr(Blacklight, "traits", Traits(refuses=True, differentiable=False))
    with pytest.raises(BenchError, match=r"declares Traits\(stateful=False\).*once its attacker has asked"):
        facts.find(spec, runtime)
