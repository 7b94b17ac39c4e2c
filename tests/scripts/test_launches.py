"""How many kernels a tick starts, on pretended CUDA tensors: at most so many, since each costs a launch."""

import pytest

from scripts import launches
from tests.run.test_tick import FAKE

# beside the network's: a little above what `python scripts/launches.py` prints (results/measured/README.md)
MOST = {"square": 285, "simba": 320, "signhunter": 290, "nes": 260, "bandits": 275, "rays": 215, "hopskipjump": 475}
DEFENCE = {"none": 0, "rnd": 75, "unig": 325}


CASES = [(attack, "none") for attack in MOST] + [("square", defence) for defence in DEFENCE if defence != "none"]


@pytest.mark.parametrize(("attack", "defence"), CASES)
def test_a_tick_starts_few_kernels(attack: str, defence: str) -> None:
    every, network = launches.a_tick(attack, defence, rows=32, mode=FAKE)
    assert network > 50 and every - network <= MOST[attack] + DEFENCE[defence]
