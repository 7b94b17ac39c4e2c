"""What a defended model is to those who query it."""

from typing import Any, Protocol

from torch import Tensor

from bench.core.rng import Draw
from bench.core.traits import Group, Traits


class Defended(Protocol):
    """x (B,C,H,W) in [0, 1] and a Draw of B rows -> logits (B,K)."""

    traits: Traits
    group: Group | None  # set where traits.coupled
    couples_behind_features: bool  # rows meet behind the features alone: several groups may share a network call
    companion_rows: int  # network rows that the constructor spent on images of its own
    queries_per_call: int  # outputs that one query draws: more where the attacker fills the batch with copies of it

    def __call__(self, x: Tensor, draw: Draw, /) -> Tensor: ...

    def approximate(self, x: Tensor, draw: Draw, kind: str) -> Tensor: ...

    def check_kind(self, kind: str) -> None: ...

    def reset(self) -> None: ...

    def added_parameters(self) -> int: ...

    @property
    def model(self) -> Any: ...
