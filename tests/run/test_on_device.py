"""Defences and white-box steps on pretended CUDA tensors: every host stop raises, and so does a CPU tensor that meets one of
them (see test_tick.py)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from attacks.base import Rows
from attacks.oracles.gradients import Exact, Watched
from bench.core.rng import Draw, Stream, keys
from bench.core.victim import FixedRows, Ledger, Victim
from bench.run import slots, tick
from defenses.aaa import Aaa
from defenses.base import Defense
from defenses.bit_depth import BitDepth
from defenses.dent import Dent
from defenses.gcm import Gcm
from defenses.jpeg import Jpeg
from defenses.median import Median
from defenses.none import Undefended
from defenses.pni import Pni
from defenses.resize_pad import ResizePad
from defenses.rnd import Rnd
from defenses.smoothing import Smoothing
from defenses.transformation import Transformation
from defenses.unig import Unig
from tests.run.test_tick import FAKE, attack_of
from tests.support.networks import convolutional, network

IMAGES, ROWS = 12, 8
GROUPED = {"lr": 0.001, "betas": [0.9, 0.999, 0.5], "steps": 2, "group": {"size": 8, "neighbours": "stay"}}


def unig(neighbours: str, steps: int = 1, **more: Any) -> Callable[[Any], Defense]:
    plain = {"delta": 0.5, "steps": steps, "alpha": 1.0, "objective": "l2", "optimizer": "sgd", "stateful": False}
    plain |= {
        "deterministic_init": False,
        "group": {"size": 8 if neighbours != "copies" else 2, "neighbours": neighbours},
    }
    return lambda model: Unig(model, **(plain | more))


def transformed(model: Any) -> Defense:
    f_b = FixedRows(network(), ROWS, torch.float32, model.ledger)
    return Transformation(model, f_b, 0.2, 2, 1 / 6, "least_likely", False, True)


DEFENCES: dict[str, Callable[[Any], Defense]] = {
    "none": Undefended,
    "rnd": lambda model: Rnd(model, 0.05, 0.1),
    "aaa": lambda model: Aaa(model, 6.0, 1.0, 5.0, 1.0, 3, 0.1),
    "gcm": lambda model: Gcm(model, 1e20, 1e-8, ["input"]),
    "unig stay": unig("stay"),
    "unig leave": unig("leave"),
    "unig copies": unig("copies"),
    "unig noise": unig("stay", steps=0),
    "unig stateful": unig("stay", stateful=True),
    "transformation": transformed,
    "dent": lambda model: Dent(model, "batch", "entropy", "adam", **GROUPED),
    "dent official": lambda model: Dent(model, "running", "shot", "adamod", **GROUPED),
    "pni": Pni,
    "jpeg": lambda model: Jpeg(model, 75),
    "bit depth": lambda model: BitDepth(model, 4),
    "median": lambda model: Median(model, 3),
    "resize and pad": lambda model: ResizePad(model, 0.7),
    "smoothing": lambda model: Smoothing(model, 0.1, 3),
}
WHITE_BOX = [
    ["attack=pgd", "attack.steps=3"],
    ["attack=mifgsm", "attack.steps=3"],
    ["attack=cw", "threat.norm=l2", "threat.eps=1", "attack.steps=3", "attack.searches=2"],
    ["attack=ead", "threat.norm=l2", "threat.eps=1", "attack.steps=3", "attack.searches=2"],
    ["attack=flow_pgd", "threat.norm=flow_linf", "threat.eps=1", "attack.steps=3"],
    ["attack=stadv", "threat.norm=none", "attack.steps=3"],
]


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autograd's engine wants a real device; its gradients, of the right shapes, are pretended, too."""

    def grad(outputs: Any, inputs: Any, **_: Any) -> tuple[torch.Tensor, ...]:
        return tuple(torch.zeros_like(each) for each in ([inputs] if isinstance(inputs, torch.Tensor) else inputs))

    monkeypatch.setattr(torch.autograd, "grad", grad)


def victim_of(name: str, device: torch.device) -> Victim:
    with device:
        bare = convolutional() if name.startswith(("dent", "pni")) else network()
        fixed = FixedRows(bare, ROWS, torch.float32, Ledger(IMAGES, device))
        return Victim(DEFENCES[name](fixed), fixed, 0)


def images(device: torch.device, n: int) -> torch.Tensor:
    return (torch.arange(n * 64, device=device).view(-1, 1, 8, 8) * 0.37) % 1


@pytest.mark.parametrize("name", DEFENCES)
def test_a_tick_through_any_defence_waits_for_nothing(name: str) -> None:
    attack = attack_of(["attack=square"])
    with FAKE:
        device = torch.device("cuda")
        victim = victim_of(name, device)
        group = victim.defense.group
        sizes = [] if group is None else [group.size] * (2 if victim.defense.couples_behind_features else 1)
        n = sum(sizes) or IMAGES
        number = torch.arange(n, device=device)
        y = torch.zeros_like(number)
        todo = slots.Todo(number, images(device, n), y, torch.full_like(y, -1), torch.ones_like(y, dtype=torch.bool))
        held = slots.load(attack, todo, 0)
        for turn in range(2):
            turns = torch.full_like(number, turn) if sizes else None
            held = tick.tick(tick.Game(victim, attack, attack.threat), held, turns, sizes)
        answered = victim.query(held.image, Draw(0, number, number, Stream.CLEAN), todo.live)
        assert answered.shape == (n, 10) and answered.device.type == "cuda"


@pytest.mark.parametrize("case", WHITE_BOX, ids=lambda case: case[0])
def test_a_white_box_attack_waits_for_nothing(case: list[str]) -> None:
    attack = attack_of(case)
    with FAKE:
        device = torch.device("cuda")
        victim = victim_of("none", device)
        number = torch.arange(IMAGES, device=device)
        y = torch.zeros_like(number)
        rows = Rows(number, y, torch.full_like(y, -1), keys(0, Stream.ATTACK, number))
        found = attack(Watched.over(Exact(victim), IMAGES, device), images(device, IMAGES), rows)
        assert found.image.shape == (IMAGES, 1, 8, 8) and found.image.device.type == "cuda"
