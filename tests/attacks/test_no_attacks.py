"""What is sent to every image, right or wrong: the clean image drawn anew, the distance to E g(x), all images as the disjoint
paper counts them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from attacks.base import Rows
from attacks.eot_image import EotImage
from attacks.eot_start import EotStart
from attacks.oracles.moved import Moved
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.threat import Threat
from bench.core.victim import Victim
from bench.report.metrics.attacked import acc_all, clean_acc_draws, clean_acc_every_draw, mean_linf
from bench.report.records import Attacked
from bench.report.transfer_matrix import value
from tests.support.cells import Compose, frame_of
from tests.support.networks import network
from tests.support.transformation import X, defence


def test_a_random_victims_clean_accuracy_is_over_its_draws(compose: Compose, tmp_path: Path) -> None:
    """RND's noise is wide enough here to turn images; the share of draws that are wrong is each record's own."""
    typed = [
        "attack=redrawn",
        "defense=rnd",
        "defense.input_noise=0.3",
        "samples.n=40",
        "re_evaluations=5",
        f"store={tmp_path}",
    ]
    frame = frame_of(compose(*typed))
    assert frame["re_evaluation_success"].notna().all() and not frame["clean"].all()
    found = Attacked.of(frame)
    wrong = frame["re_evaluation_success"].to_numpy(dtype=float)
    assert set(np.round(wrong * 5, 6)) <= {0, 1, 2, 3, 4, 5} and 0 < wrong.mean() < 1
    assert clean_acc_draws(found).value == pytest.approx(100 - 100 * wrong.mean())
    assert clean_acc_every_draw(found).value == 100 * (wrong == 0).mean() < clean_acc_draws(found).value


def test_one_answer_is_all_there_is_of_a_victim_that_draws_nothing(compose: Compose, tmp_path: Path) -> None:
    frame = frame_of(compose("attack=redrawn", "samples.n=200", f"store={tmp_path}"))
    found = Attacked.of(frame)
    assert 0 < frame["clean"].sum() < 200 and not frame["fooled"].any()
    assert frame["margin"].notna().all() and ((frame["margin"] >= 0) == frame["clean"]).all()
    for metric in (acc_all, clean_acc_draws, clean_acc_every_draw):
        assert metric(found).value == pytest.approx(100 * frame["clean"].mean())


def by_hand(clean: list[bool], fooled: list[bool], margin: list[float | None]) -> Attacked:
    n = len(clean)
    columns = {"sample": range(n), "position": range(n), "clean": clean, "fooled": fooled, "margin": margin}
    return Attacked.of({name: np.array(list(column)) for name, column in columns.items()})


def test_counted_as_the_paper_does_an_image_may_become_right() -> None:
    """Four images: kept, fooled, wrong and turned right, wrong and still so."""
    images = by_hand([True, True, False, False], [False, True, False, False], [1.0, -1.0, 0.5, -0.5])
    assert images.robust.tolist() == [True, False, False, False] and acc_all(images).value == 50
    own = by_hand([True, True, False, False], [True, True, False, False], [-1.0, -1.0, -1.0, -1.0])
    line = [[own.counting_all(), images.counting_all()], [images.counting_all(), own.counting_all()]]
    assert value("blackbox_acc_all", line, "t").value == 50 and value("whole_set_acc_all", line, "t").value == 25
    assert value("blackbox_acc", [[own, images], [images, own]], "t").value == 25
    with pytest.raises(BenchError, match=r"set attack\.wrong_too=true"):
        acc_all(by_hand([True, False], [False, False], [1.0, float("nan")]))


def test_the_distance_is_to_the_mean_of_g() -> None:
    ours = defence()
    victim = Victim(ours, ours.model, seed=3)
    number = torch.tensor([3, 7, 1, 0, 9, 4])
    rows = Rows(number, torch.zeros_like(number), torch.full_like(number, -1), number)
    found = EotImage(Threat("linf", Fraction(1, 10), 1, "logits", "untargeted"), samples=4)(Moved(victim), X, rows)
    assert torch.equal(found.image, X) and found.moved is not None
    made = [ours.moved(X, Draw(3, number, torch.full_like(number, nth), Stream.EOT), "exact") for nth in range(4)]
    assert torch.allclose(found.moved, torch.stack(made).mean(0), atol=1e-6)
    assert 0 < (found.moved - X).abs().max() <= 0.2 + 1e-6


def test_the_attack_from_the_mean_is_a_slow_loop_on_f_alone() -> None:
    ours = defence()
    victim = Victim(ours, ours.model, seed=3)
    number = torch.tensor([3, 7, 1, 0, 9, 4])
    y = torch.tensor([0, 1, 2, 3, 4, 5])
    rows, oracle = Rows(number, y, torch.full_like(y, -1), number), Moved(victim)
    limits = Threat("linf", Fraction(1, 10), 1, "logits", "untargeted")
    found = EotStart(limits, samples=3, steps=4, step=0.4, loss="cross_entropy")(oracle, X, rows)
    mean = oracle.mean(X, rows, 3)
    f, delta = network(), torch.zeros_like(X)
    for _ in range(4):
        point = (mean + delta).clamp(0, 1).requires_grad_()
        (slope,) = torch.autograd.grad(torch.nn.functional.cross_entropy(f(point), y, reduction="sum"), point)
        delta = (delta + 0.04 * slope.sign()).clamp(-0.1, 0.1)
    assert torch.allclose(found.image, (X + delta).clamp(0, 1), atol=1e-6)
    with pytest.raises(BenchError, match=r"attack\.steps=0"):
        EotStart(limits, samples=3, steps=0, step=0.4, loss="cross_entropy")


def test_a_cell_records_that_distance_and_only_a_transformation_has_one(compose: Compose, tmp_path: Path) -> None:
    second = ["model@f_b.model=small_cnn", "recipe@f_b.recipe=standard_digits"]
    typed = [
        "attack=eot_image",
        "attack.samples=3",
        "samples.n=6",
        "f_b.recipe.epochs=1",
        f"store={tmp_path}",
    ]
    frame = frame_of(compose("defense=transformation", *second, *typed))
    far = mean_linf(Attacked.of(frame))
    assert far.n == 6 and far.value == pytest.approx(frame["linf"].mean()) and 0.05 < far.value <= 0.2 + 1e-6
    with pytest.raises(BenchError, match="moves no image; set defense=transformation"):
        frame_of(compose(*typed))
