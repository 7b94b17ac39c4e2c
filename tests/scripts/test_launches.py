"""How many kernels a tick starts, on pretended CUDA tensors: at most so many, since each costs a launch."""

import pytest

from scripts import launches
from tests.run.test_tick import FAKE

# beside the network's: a little above what `python scripts/launches.py` prints (results/measured/README.md)
MOST = {"square": 0, "simba": 0, "signhunter": 0, "nes": 0, "bandits": 0, "rays": 0, "hopskipjump": 0}
DEFENCE = {"none": 0, "rnd": 0, "unig": 0}


@pytest.mark.parametrize("defence", DEFENCE)
@pytest.mark.parametrize("attack", MOST)
def test_a_tick_starts_few_kernels(attack: str, defence: str) -> None:
    if defence != "none" and attack != "square":
        pytest.skip("what a defence adds does not depend on the attack")
    every, network = launches.a_tick(attack, defence, rows=32, mode=FAKE)
    assert network > 50 and every - network <= MOST[attack] + DEFENCE[defence]
