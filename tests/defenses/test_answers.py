"""A surrogate that learned from a defence's answers answers as it does, and is what `kind=learned` goes back through."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attacks.base import Rows
from attacks.oracles.gradients import Bpda
from bench.assemble import networks
from bench.config import grid
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys
from bench.core.traits import Group
from bench.data.samples import load, split_of
from bench.run import cell as runner
from bench.store.records import Cell
from defenses.base import Defense, Traits
from defenses.recipes import answers
from defenses.rnd import Rnd
from tests.support import noops, shipped
from tests.support.scene import Scene
from tests.support.strike import victim_of

CPU = torch.device("cpu")


def test_a_factor_or_an_offset_of_the_logits_changes_nothing() -> None:
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    plain = answers.shares(logits)
    for other in (logits * 1e4, logits * 1e-4, logits + 7, logits * 3 - 2):
        torch.testing.assert_close(answers.shares(other), plain, atol=1e-4, rtol=1e-3)
    assert torch.allclose(plain.sum(1), torch.ones(50)) and (plain.argmax(1) == logits.argmax(1)).all()
    assert torch.isfinite(answers.shares(torch.zeros(5, 10))).all()


def asked(scene: Scene, defend: Any, images: int = 40, draws: int = 2) -> dict[str, torch.Tensor]:
    (cell,) = grid.cells(shipped.DIGITS)
    source = split_of(cell.spec.dataset, "train")
    return answers.answered(
        source, victim=victim_of(scene, defend), seed=0, device=CPU, images=images, draws=draws, noise="1/16"
    )


def test_the_labels_are_the_victims_answers_to_these_very_images(digits: Scene) -> None:
    found = asked(digits, noops.Tiny)
    assert found["pixels"].shape == (80, 8, 8, 1) and found["labels"].shape == (80, 10)
    seen = found["pixels"].float().permute(0, 3, 1, 2)
    assert (seen[:40] - seen[40:]).abs().max() <= 1 / 16 + 1e-3 and not torch.equal(seen[:40], seen[40:])
    with torch.no_grad():
        assert torch.equal(
            digits.network(seen).argmax(1), found["labels"].argmax(1)
        )  # a ten-thousandth of the scores, the same class


class Batchwise(Defense):
    """Refuses a batch that isn't a whole group."""

    traits = Traits(coupled=True)
    group = Group(size=16, neighbours="stay")

    def forward(self, x: torch.Tensor, draw: Any) -> torch.Tensor:
        assert len(x) == 16
        return self.model(x)


def test_a_coupled_victim_gets_whole_groups(digits: Scene) -> None:
    assert len(asked(digits, Batchwise, images=40, draws=1)["labels"]) == 40


class Broken(Defense):
    def forward(self, x: torch.Tensor, draw: Any) -> torch.Tensor:
        return self.model(x) * torch.nan


def test_answers_that_are_no_numbers_are_refused(digits: Scene) -> None:
    with pytest.raises(BenchError, match="NaN or inf"):
        asked(digits, Broken)


def test_learned_takes_the_victims_answer_and_the_surrogates_slope(digits: Scene) -> None:
    torch.manual_seed(0)
    surrogate = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    victim = victim_of(digits, lambda model: Rnd(model, 0.05, 0.0))
    with pytest.raises(BenchError, match=r"add \+surrogate@attack.surrogate=answers"):
        Bpda(victim, "learned")
    victim.surrogate = surrogate
    number, everyone = torch.arange(8), torch.ones(8, dtype=torch.bool)

    rows = Rows(number, digits.y[:8], torch.full((8,), -1), keys(0, Stream.ATTACK, number))
    answer = Bpda(victim, "learned")(digits.x[:8], rows, "margin", everyone)
    again = victim_of(digits, lambda model: Rnd(model, 0.05, 0.0))
    plain = Bpda(again, "identity")(digits.x[:8], rows, "margin", everyone)
    torch.testing.assert_close(answer.logits, plain.logits, atol=1e-4, rtol=1e-4)  # the same draw of the same defence
    own, other = digits.y[:8], plain.logits.scatter(1, digits.y[:8, None], -torch.inf).argmax(1)
    slope = (surrogate[1].weight[own] - surrogate[1].weight[other]).view(8, 1, 8, 8)  # pyright: ignore
    torch.testing.assert_close(answer.grad, slope, atol=1e-5, rtol=1e-4)


LEARNED = ["attack/oracle=bpda", "attack.oracle.kind=learned", "+surrogate@attack.surrogate=answers"]


@pytest.fixture
def words(artifacts: Path, tmp_path: Path) -> list[str]:
    return [
        *shipped.DIGITS, f"artifacts={artifacts}", f"store={tmp_path}", "device=cpu", "threads=1", "samples=40",
        "threat.eps=1/12", "defense=gcm",
    ]  # fmt: skip


def test_a_cell_goes_back_through_a_surrogate_that_it_trains(words: list[str]) -> None:
    """Against a concealed gradient the straight one finds nothing, the learned one about what the bare network's finds."""
    (cell,) = grid.cells([*words, "attack=pgd", *LEARNED])
    (straight,) = grid.cells([*words, "attack=pgd"])
    left = []
    for each in (cell, straight):
        runner.run(each.config, command="a test")
        frame = Cell(each.runtime.store, each.key).frame()
        left.append(int((frame["clean"] & ~frame["fooled"]).sum()))
    assert left[0] < left[1] - 8, left
    assert cell.key != straight.key
    spec, test = cell.spec, load(cell.spec.dataset, cell.spec.samples, CPU)
    assert spec.attack.surrogate is not None
    surrogate = networks.second(spec, spec.attack.surrogate, "attack.surrogate", test, cell.runtime.artifacts)
    x = test.images(list(range(40)))
    network, _ = networks.deployed(spec, test, cell.runtime.artifacts)
    assert (surrogate(x).argmax(1) == network(x).argmax(1)).float().mean() > 0.9
    assert not torch.equal(surrogate.head.weight, network.head.weight)  # it was trained on


def test_another_defence_is_another_surrogate(words: list[str]) -> None:
    quick = ["attack.sources.a.recipe.epochs=2", "attack.sources.a.recipe.data.images=200"]
    (one,), (two,) = (
        grid.cells([*words, "attack=transfer_distilled", *quick, f"defense={defense}"]) for defense in ("gcm", "rnd")
    )
    assert one.spec.attack.plain() != two.spec.attack.plain()
    runner.run(one.config, command="a test")
    assert len(Cell(one.runtime.store, one.key).frame()) == 40
