"""The two shapes of an attack: protocols, no base class with behaviour."""

from typing import Any, Protocol, TypeVar

from torch import Tensor

State = TypeVar("State", bound=tuple[Any, ...])


class QueryAttack(Protocol[State]):
    """Asks one image a row and tick, is told the reply. Settings in a frozen dataclass, state in a NamedTuple whose fields
    all start with the row axis; time is a column, so rows of different age share a batch. Counting, success, refill and
    resume live in `bench.loop`.
    """

    @property
    def anytime(self) -> bool:
        """Its first q queries do not depend on the budget."""
        ...

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        """x (B,C,H,W) in [0, 1], y and target (B,) (target -1: untargeted), key (B,) int64: the row's own randomness."""
        ...

    def ask(self, s: State) -> Tensor:
        """(B,C,H,W) in [0, 1]."""
        ...

    def candidate(self, s: State) -> Tensor:
        """(B,) bool: may the query just asked end the attack?"""
        ...

    def tell(self, s: State, asked: Tensor, reply: Tensor) -> State:
        """reply: logits (B,K)."""
        ...
