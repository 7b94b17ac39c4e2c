"""Every defence and white-box attack of conf/ on pretended CUDA tensors: every host stop raises, and so does a CPU tensor that
meets one of them (see test_tick.py; recipes: tests/defenses/test_training_on_device.py). A new YAML needs no entry here."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

from attacks.base import Rows
from attacks.oracles.gradients import Exact, Watched
from bench.assemble.attack import oracle_of
from bench.config import grid, places
from bench.config.instantiate import make
from bench.core.rng import Draw, Stream, keys
from bench.core.victim import FixedRows, Ledger, Victim
from bench.models.image_to_image import convolutional as image_to_image
from bench.models.sets import ModelSet
from bench.models.split import Split
from bench.run import slots, tick
from defenses.base import Defense
from defenses.dent import Dent
from defenses.smoothing import Smoothing
from defenses.transformation import Transformation
from defenses.unig import Unig
from tests.run.test_tick import CASES, FAKE, attack_of
from tests.support.methods import SETTINGS
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


SMALL = {
    "defense.group.size": "8",
    "attack.steps": "3",
    "attack.searches": "2",
    "attack.restarts": "2",
    "attack.samples": "4",
}
DEFENCES = [
    name for name in places.choices("defense") if name != "blacklight"
]  # that one compares fingerprints on the host
VARIANTS: dict[str, Callable[[Any], Defense]] = {  # what no YAML says
    "unig copies of two": unig("copies"),
    "unig stateful": unig("stay", stateful=True),
    "transformation, per query": transformed,
    "dent, running": lambda model: Dent(model, "running", "shot", "adamod", **GROUPED),
    "smoothing of 3": lambda model: Smoothing(model, 0.1, 3),
}
LOOKS = ("autoattack", "advlib", "art", "foolbox", "torchattacks")  # engines that look at their tensors by themselves
READS = (
    "replay",
    *(f"transfer_{of}" for of in ("undefended", "seeds", "architecture", "distilled")),
)  # images of other cells, read by sample number once a block
QUERY = {case[0].partition("=")[2] for case in CASES}
WHITE_BOX = [
    name for name in places.choices("attack")
    if name not in QUERY and name not in ("none", "transfer") and not name.startswith((*LOOKS, *READS))
]  # fmt: skip
ON = {"eot_image": "transformation", "eot_start": "transformation", "gmsa": "dent"}  # else on none


def typed(group: str, name: str, more: Sequence[str] = ()) -> list[str]:
    """A choice at the scale of this file: its numbers that make it long are short."""
    words = [f"{group}={name}", *SETTINGS.get(f"{group}={name}", []), *more]
    words = [word for word in words if not word.startswith("defense") or group == "defense"]
    own = ["model=set_small_cnn", "model.member=random"] if name == "random_member" else []
    whole = grid.cells([*words, *own])[0].config
    small = {path: size for path, size in SMALL.items() if path.startswith(group) and _has(whole, path)}
    kept = [word for word in words if word.partition("=")[0] not in small]
    return [*kept, *own, *(f"{path}={size}" for path, size in small.items())]


def _has(node: Any, path: str) -> bool:
    name, _, rest = path.partition(".")
    return isinstance(node, dict) and node.get(name) is not None and (not rest or _has(node[name], rest))


def defended(name: str, fixed: FixedRows, device: torch.device) -> Defense:
    """A choice of conf/defense, given what its `needs` name."""
    node = grid.cells(typed("defense", name))[0].spec.defense
    objects: dict[str, Any] = {}
    if node.needs and node.needs.companions:
        objects["companions"] = (images(device, 3), torch.zeros(3, dtype=torch.int64, device=device))
    if node.needs and node.needs.f_b:
        objects["f_b"] = FixedRows(network(), ROWS, torch.float32, fixed.ledger)
    if node.needs and node.needs.h:
        objects["h"] = image_to_image([1, 8, 8], 4, [1])
    return make(node, model=fixed, **objects).eval()


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autograd's engine wants a real device; its gradients, of the right shapes, are pretended, too."""

    def grad(outputs: Any, inputs: Any, **_: Any) -> tuple[torch.Tensor, ...]:
        return tuple(torch.zeros_like(each) for each in ([inputs] if isinstance(inputs, torch.Tensor) else inputs))

    monkeypatch.setattr(torch.autograd, "grad", grad)


def victim_of(name: str, device: torch.device) -> Victim:
    with device:
        bare: Split = convolutional() if name.startswith(("dent", "pni")) else network()
        if name == "random_member":
            bare = ModelSet([network(), network()]).deploy("random").eval()
        fixed = FixedRows(bare, ROWS, torch.float32, Ledger(2 * ROWS, device))
        return Victim(VARIANTS[name](fixed) if name in VARIANTS else defended(name, fixed, device), fixed, 0)


def images(device: torch.device, n: int) -> torch.Tensor:
    return (torch.arange(n * 64, device=device).view(-1, 1, 8, 8) * 0.37) % 1


@pytest.mark.parametrize("name", [*DEFENCES, *VARIANTS])
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


@pytest.mark.parametrize("name", WHITE_BOX)
def test_a_white_box_attack_waits_for_nothing(name: str) -> None:
    attack = attack_of(typed("attack", name))
    with FAKE:
        found = attacked(name, attack)
        assert found.image.shape == (ROWS, 1, 8, 8) and found.image.device.type == "cuda"


def test_a_transfer_attack_waits_for_nothing() -> None:
    """It crafts on a network of its own, then queries."""
    attack = attack_of(["attack=transfer", "attack.steps=3", "threat.queries=5"])
    with FAKE:
        device = torch.device("cuda")
        with device:
            attack = replace(attack, source=network())
        victim, number = victim_of("none", device), torch.arange(ROWS, device=device)
        y = torch.zeros_like(number)
        held = slots.load(attack, slots.Todo(number, images(device, ROWS), y, y - 1, y == 0), 0)
        held = tick.tick(tick.Game(victim, attack, attack.threat), held)
        assert held.live.device.type == "cuda"


def attacked(name: str, attack: Any) -> Any:
    device = torch.device("cuda")
    victim = victim_of(ON.get(name, "none"), device)
    number = torch.arange(ROWS, device=device)
    y = torch.zeros_like(number)
    rows = Rows(number, y, torch.full_like(y, -1), keys(0, Stream.ATTACK, number))
    oracle = oracle_of(attack, victim) or Exact(victim)
    return attack(Watched.over(oracle, 2 * ROWS, device), images(device, ROWS), rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in places.choices("attack") if name.startswith((*LOOKS, *READS))])
def test_what_is_left_out_does_wait(name: str) -> None:
    """Else it belongs to the others."""
    with FAKE, pytest.raises(DataDependentOutputException):
        attacked(name, attack_of(typed("attack", name)))


def test_a_defence_that_compares_on_the_host_does_wait() -> None:
    with FAKE:
        device = torch.device("cuda")
        number, victim = torch.arange(IMAGES, device=device), victim_of("blacklight", device)
        draw = Draw(0, number, number, Stream.DEFENCE)
        with pytest.raises(DataDependentOutputException):
            victim.query(images(device, IMAGES), draw, torch.ones_like(number, dtype=torch.bool))
