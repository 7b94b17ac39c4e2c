"""An attack at its strength: fitted to a random victim, and refused where the data set has too few classes for its loss."""

from dataclasses import replace
from typing import Any

from attacks import losses
from bench.config.specs import CellSpec
from bench.core.victim import Victim


def check_classes(attack: Any, spec: CellSpec) -> None:
    """Before any work: raises BenchError for an attack whose loss needs more classes than there are."""
    if hasattr(attack, "check_classes"):
        attack.check_classes(spec.dataset.classes)
    loss = getattr(attack, "loss", None)
    if isinstance(loss, str):
        losses.check_classes(loss, spec.dataset.classes, spec.threat.goal != "untargeted")


def fit_to(attack: Any, victim: Victim) -> Any:
    """The attack as it meets this victim: on a random one it never stops at a lucky draw."""
    return without_luck(attack) if victim.defense.traits.stochastic else attack


def without_luck(attack: Any) -> Any:
    return replace(attack, early_stop=False) if getattr(attack, "early_stop", False) else attack
