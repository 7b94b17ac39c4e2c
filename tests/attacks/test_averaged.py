"""An averaging attacker: the same attack at m answers an image, honest incumbents, examples that hold."""

from fractions import Fraction
from typing import Any

import pytest
import torch

from attacks.query.averaged import Averaged
from attacks.query.nes import Nes
from attacks.query.noise import Noise
from attacks.query.signhunter import SignHunter
from attacks.query.simba import Simba
from attacks.query.square import Square
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys
from bench.core.threat import Threat
from tests.support.scene import Scene


def threat(queries: int) -> Threat:
    return Threat("linf", Fraction("1/12"), queries, "logits", "untargeted")


MAKE: dict[str, Any] = {
    "square": lambda t: Square(t, 0.3, "margin", 600),
    "simba": lambda t: Simba(t, "pixel", 0.2, None, "random", 7),
    "signhunter": lambda t: SignHunter(t, "cross_entropy"),
    "nes": lambda t: Nes(t, "cross_entropy", 4, 0.01, False, 0.02),
}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("accept", [None, 0.0])
def test_on_a_deterministic_victim_it_is_the_same_attack_at_m_answers_an_image(
    name: str, accept: float | None, digits: Scene
) -> None:
    plain = digits.play(MAKE[name](threat(60)), threat(60))
    if accept is None:
        mean = digits.play(Averaged(MAKE[name](threat(180)), 3, None, 10), threat(180))
        assert torch.equal(plain.fooled, mean.fooled) and torch.equal(3 * plain.queries, mean.queries)
        assert torch.equal(plain.found, mean.found)
    elif name != "nes":  # it has no incumbent; every accepted proposal is asked again
        mean = digits.play(Averaged(MAKE[name](threat(360)), 3, accept, 10), threat(360))
        assert (mean.fooled >= plain.fooled).all() and (
            mean.queries[plain.fooled] >= 3 * plain.queries[plain.fooled]
        ).all()


@pytest.mark.parametrize("name", ["square", "simba", "signhunter"])
def test_incumbents_are_no_lucky_minima(name: str) -> None:
    """A victim whose answers are noise around one margin: the plain attack believes that it has come far."""
    x = torch.full((16, 1, 8, 8), 0.5)
    y, none = torch.zeros(16, dtype=torch.int64), torch.full((16,), -1)
    generator = torch.Generator().manual_seed(0)

    def believed(attack: Any, queries: int) -> torch.Tensor:
        """(B,) how far the loss in hand lies below that of a noiseless answer."""
        state = attack.start(x, y, none, keys(0, Stream.ATTACK, torch.arange(16)))
        for _ in range(queries):
            asked = attack.query(state)
            reply = torch.tensor([[2.0, 0.0, 0.0]]) + 0.5 * torch.randn(16, 3, generator=generator)
            state = attack.observe(state, asked, reply)
        return getattr(state, "inner", state).loss

    lucky = believed(MAKE[name](threat(600)), 200).mean()
    honest = believed(Averaged(MAKE[name](threat(600)), 10, 1.0, 3), 2000).mean()
    level = believed(Averaged(MAKE[name](threat(600)), 1000, None, 3), 1000).mean()  # one image, a thousand answers
    assert lucky < level - 0.3 or lucky < 1.5 * level
    assert abs(honest - level) < 0.5 * abs(lucky - level)


def test_the_sources_of_the_mean_are_counted_and_candidates_are_means(digits: Scene) -> None:
    attack = Averaged(MAKE["square"](threat(60)), 4, 1.0, 10)
    found = digits.play(attack, threat(60))
    assert (found.queries <= 60).all() and (found.queries[found.fooled] % 4 == 0).all()
    assert (found.queries[~found.fooled] == 60).all()


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Averaged(Noise(threat(9)), 3, None, 10), "noise reads labels"),
        (lambda: Averaged(MAKE["nes"](threat(90)), 3, 1.0, 10), "nes keeps no incumbent"),
        (lambda: Averaged(MAKE["simba"](threat(9)), 1, 1.0, 10), "queries_per_image=1 at least 2"),
        (lambda: Averaged(MAKE["simba"](threat(9)), 0, None, 10), "queries_per_image=0"),
        (lambda: Averaged(MAKE["simba"](threat(9)), 2, -1.0, 10), "acceptance_z=-1.0"),
    ],
)
def test_bad_settings_are_one_line(make: Any, line: str) -> None:
    with pytest.raises(BenchError, match=line):
        make()
