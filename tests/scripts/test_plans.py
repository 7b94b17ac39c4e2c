"""scripts/plans.py: its page at given rates, counted by hand for a grid of digits; bad words."""

from pathlib import Path

import pytest

from bench.config import grid
from bench.core.errors import BenchError
from bench.sweep import plan
from scripts import plans


def test_hours_are_passes_at_the_given_rate(tmp_path: Path) -> None:
    """+experiment=digits_square: 4 victims, 100 and 2,500 queries, 300 images, one network of 30 epochs on 1,297."""
    out = tmp_path / "plans.md"
    text = plans.main(["rate_32=1000", "rate_224=10", f"out={out}", "experiments=digits_square"])
    assert out.read_text() == text
    cells = text.splitlines()[-1].split("|")[1:-1]
    name, count, trainings, epochs, rows, forward, backward, training, attacks = (
        each.strip().replace(",", "") for each in cells
    )
    assert (name, count, trainings, epochs, backward) == ("digits_square", "8", "1", "30", "0")
    assert int(forward) == 4 * 300 * ((1 + 100 + 10) + (1 + 2500 + 10))
    assert float(attacks) == round(int(forward) / 1000 / 3600, 1)
    assert float(training) == round(3 * int(rows) / 1000 / 3600, 1)
    assert "an assumption, not a measurement" in text and "rate_32=1000 rate_224=10" in text


def test_training_rows_crafted_images_and_the_larger_n() -> None:
    typed = [
        "store=/nowhere",
        "artifacts=/nowhere",
        "dataset=mnist",
        "model=set_small_cnn",
        "recipe=disjoint_3",
        "attack=replay_member",
    ]
    typed += [
        "model.members=3",
        "recipe.epochs=2",
        "+recipe.images=100",
        "samples.n=10",
        "attack.craft.steps=7",
        "re_evaluations=1",
    ]
    targets = grid.cells([*typed, "model.member=0,1,2", "attack.sources.a.model.member=0"])
    made = plan.plan(targets, probe=False)
    # three networks at once, two transfer losses of six ordered pairs each
    assert (made.cells, made.trainings, made.training) == (3, 1, 2 * 100 * (3 + 2 * 6))
    assert made.backward == 10 * 7  # crafted on one source, sent to three
    assert made.forward == 10 * 7 + 3 * 10 * 3
    both = [*targets, *grid.cells([*typed, "model.member=0", "attack.sources.a.model.member=0", "samples.n=5"])]
    assert plan.plan(both, probe=False).forward == made.forward  # n is no part of the key: the larger counts
    (trained,) = grid.cells(
        ["recipe=adversarial", "recipe.epochs=1", "+recipe.images=50", "recipe.loss.steps=7", "store=/nowhere"]
    )
    assert plan.training_rows(trained.spec) == 50 * 8


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "rate_32=None: give the forward rows a second"),
        (["rate_32=5", "rate_224=-1"], "rate_224=-1: give"),
        (["rate=5"], "rate=5 is unknown"),
    ],
)
def test_bad_words_get_one_line(typed: list[str], said: str) -> None:
    with pytest.raises(BenchError, match=said):
        plans.main(typed)
