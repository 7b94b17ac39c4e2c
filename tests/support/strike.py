"""White-box attacks on a Scene, without a cell."""

from typing import Any

import torch
from torch import Tensor

from attacks.base import Found, Rows
from attacks.oracles.gradients import Exact, Watched
from bench.core.rng import Stream, keys
from bench.core.success import fooled
from bench.core.threat import Threat, read
from bench.core.victim import FixedRows, Ledger, Victim
from defenses.base import Defense
from defenses.none import Undefended
from tests.support.scene import Scene

CPU = torch.device("cpu")


def limits(norm: str, eps: str, goal: str = "untargeted") -> Threat:
    return read({"norm": norm, "eps": eps, "queries": 1, "feedback": "gradient", "goal": goal})


def victim_of(scene: Scene, defend: Any = Undefended, rows: int = 64, seed: int = 0) -> Victim:
    """defend: FixedRows -> Defense."""
    fixed = FixedRows(scene.network, rows, torch.float32, Ledger(len(scene.y), CPU))
    defense: Defense = defend(fixed)
    return Victim(defense, fixed, seed)


def strike(
    scene: Scene,
    attack: Any,
    defend: Any = Undefended,
    oracle: Any = Exact,
    target: Tensor | None = None,
    rows: int = 64,
) -> tuple[Found, Tensor, Victim, Watched]:
    """-> what the attack found, fooled (B,) by the bare network's answer, the victim, what the attack received."""
    victim = victim_of(scene, defend, rows)
    watched = Watched.over(oracle(victim=victim), len(scene.y), CPU)
    number = torch.arange(len(scene.y))
    aim = torch.full_like(scene.y, -1) if target is None else target
    found = attack(watched, scene.x, Rows(number, scene.y, aim, keys(0, Stream.ATTACK, number)))
    with torch.no_grad():
        hit = fooled(victim.defense.model(found.image), scene.y, aim)  # in calls of the attack's own shape
    return found, hit, victim, watched
