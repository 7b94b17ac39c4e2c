"""How many kernels a tick starts, on pretended CUDA tensors: at most so many, since each costs a launch."""

import pytest

from scripts import launches
from tests.run.test_tick import FAKE

# beside the network's: what `python scripts/launches.py` prints (results/measured/README.md)
MOST = {"square": 121, "simba": 130, "signhunter": 120, "nes": 148, "bandits": 152, "rays": 99, "hopskipjump": 280}
DEFENCE = {"none": 0, "rnd": 59, "unig": 221}
OTHER_TORCH = 4  # another version may split an operator


CASES = [(attack, "none") for attack in MOST] + [("square", defence) for defence in DEFENCE if defence != "none"]


@pytest.mark.parametrize(("attack", "defence"), CASES)
def test_a_tick_starts_few_kernels(attack: str, defence: str) -> None:
    every, network = launches.a_tick(attack, defence, rows=32, mode=FAKE)
    assert network > 50 and every - network <= MOST[attack] + DEFENCE[defence] + OTHER_TORCH
