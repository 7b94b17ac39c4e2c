"""The two shapes of an attack: protocols, no base class with behaviour."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from torch import Tensor

from bench.core.victim import Answer

State = TypeVar("State", bound=tuple[Any, ...])


class QueryAttack(Protocol[State]):
    """Asks one image a row and tick, is told the reply. Settings in a frozen dataclass, state in a NamedTuple whose fields
    all start with the row axis; time is a column, so rows of different age share a batch. Counting, success, refill and
    resume live in `bench.run.slots`.

    A score attack that keeps an incumbent (`keeps_incumbent`) calls it `best` (B,C,H,W), with its `loss` (B,), in its state,
    and changes both only in `tell`; so an averaging attacker can test it again. `loss` in its settings names what it minimises.
    """

    @property
    def anytime(self) -> bool:
        """Its first q queries do not depend on the budget."""
        ...

    @property
    def keeps_incumbent(self) -> bool: ...

    @property
    def feedback(self) -> Literal["logits", "label"]:
        """What it reads of a reply."""
        ...

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        """x (B,C,H,W) in [0, 1], y and target (B,) (target -1: untargeted), key (B,) int64: the row's own randomness."""
        ...

    def ask(self, s: State) -> Tensor:
        """(B,C,H,W) in [0, 1]."""
        ...

    def candidate(self, s: State, reply: Tensor) -> Tensor:
        """(B,) bool: may the query just asked, with this reply, end the attack? The loop judges whether it fools."""
        ...

    def tell(self, s: State, asked: Tensor, reply: Tensor) -> State:
        """reply: logits (B,K), or labels (B,) where `feedback` is label."""
        ...


class Rows(NamedTuple):
    """What belongs to each row of x in a white-box attack."""

    sample: Tensor  # (B,) int64, stable sample numbers
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    key: Tensor  # (B,) int64: the row's own randomness


class Oracle(Protocol):
    """Where a white-box attack gets its gradients. Rows that are not `live` (B,) cost nothing and are answered with zeros, so an
    attack keeps its batch whole and simply stops the rows that are done."""

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Answer:
        """x (B,C,H,W) in [0, 1]; loss: a name in `attacks.losses.LOSSES`."""
        ...

    def look(self, x: Tensor, rows: Rows, live: Tensor) -> Tensor:
        """(B,K) logits, forward only."""
        ...

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        """(B,K) logits that autograd goes back through, for engines that take a network."""
        ...


MakeOracle = Callable[..., Oracle]  # victim=... -> an oracle on it; what attack/oracle=... names


class Found(NamedTuple):
    image: Tensor  # (B,C,H,W) in [0, 1]
    restart: Tensor  # (B,) int64: the restart that made it


class GradientAttack(Protocol):
    """A white-box attack: oracle, x (B,C,H,W) in [0, 1] and its rows -> one image a row. Settings in a frozen dataclass. Whether
    the image fools is judged by the cell, by a fresh answer."""

    @property
    def oracle(self) -> MakeOracle | None:
        """Whoever runs it makes an oracle by this and hands that to the call; None: it needs none."""
        ...

    @property
    def chunk(self) -> int | None:
        """Images that must come together (an engine's batch); None: any number."""
        ...

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found: ...
