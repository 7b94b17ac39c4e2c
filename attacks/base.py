"""The two shapes of an attack: protocols, no base class with behaviour."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import Tensor, where

from bench.core.victim import Evaluation

State = TypeVar("State", bound=tuple[Any, ...])


class QueryAttack(Protocol[State]):
    """Queries one image a row and tick, and observes the output. Settings in a frozen dataclass, state in a NamedTuple whose
    fields all start with the row axis; time is a column, so rows of different age share a batch. Counting, success, refill and
    resume live in `bench.run`. No method waits for the device (`bench.core.rows.update` is for changes of some rows), nor writes
    into the state that it is given.

    """

    @property
    def anytime(self) -> bool:
        """Its first q queries do not depend on the budget."""
        ...

    @property
    def keeps_incumbent(self) -> bool:
        """Is it an IncumbentAttack?"""
        ...

    @property
    def feedback(self) -> Literal["logits", "label"]:
        """What it reads of an output."""
        ...

    def start(self, x: Tensor, y: Tensor, target: Tensor, key: Tensor) -> State:
        """x (B,C,H,W) in [0, 1], y and target (B,) (target -1: untargeted), key (B,) int64: the row's own randomness."""
        ...

    def query(self, s: State) -> Tensor:
        """(B,C,H,W) in [0, 1]."""
        ...

    def candidate(self, s: State, output: Tensor) -> Tensor:
        """(B,) bool: may the image just queried, with this output, end the attack? The loop judges whether it fools."""
        ...

    def observe(self, s: State, queried: Tensor, output: Tensor) -> State:
        """output: logits (B,K), or labels (B,) where `feedback` is label."""
        ...


@runtime_checkable
class Foresight(Protocol[State]):
    """A query attack that can guess its state after the next output, such as one that rejects the proposal. Rows of a network
    call that would be filler then carry its next queries (`bench.run.tick`). A wrong guess costs nothing but the row."""

    def ahead(self, s: State) -> State: ...


@runtime_checkable
class Branching(Foresight[State], Protocol[State]):
    """One whose next output, as far as the next query depends on it, is one of two: what `ahead` guesses, or the other. Spare
    rows then follow both branches, the likelier ones first."""

    def otherwise(self, s: State, queried: Tensor) -> State:
        """Its state after the output that `ahead` does not guess. queried (B,C,H,W): what `query` makes of s."""
        ...


@runtime_checkable
class Ending(Protocol):
    """A query attack that may have nothing left to try before its budget is spent."""

    def ended(self, s: Any) -> Tensor:
        """(B,) bool: no further query, after the output that was just observed."""
        ...


class IncumbentAttack(QueryAttack[State], Protocol[State]):
    """A score attack that keeps the best image so far, `best` (B,C,H,W), and its `loss` (B,), in its state. An averaging attacker
    decides by other rules what replaces it (`attacks.query.averaged`). `loss` in its settings names what it minimises."""

    @property
    def loss(self) -> str: ...

    def accept(self, s: State, output: Tensor, bar: Tensor) -> Tensor:
        """(B,) bool: does the image just queried replace an incumbent whose loss to beat is `bar` (B,)?"""
        ...

    def settle(self, s: State, queried: Tensor, output: Tensor, accepted: Tensor) -> State:
        """What `observe` does, with the decision made: accepted (B,)."""
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

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        """x (B,C,H,W) in [0, 1]; loss: a name in `attacks.losses.LOSSES`."""
        ...

    def logits(self, x: Tensor, rows: Rows, live: Tensor) -> Tensor:
        """(B,K) logits, forward only."""
        ...

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        """(B,K) logits that autograd goes back through, for engines that take a network."""
        ...


MakeOracle = Callable[..., Oracle]  # victim=... -> an oracle on it; what attack/oracle=... names


class Found(NamedTuple):
    image: Tensor  # (B,C,H,W) in [0, 1]
    restart: Tensor  # (B,) int64: the restart that made it
    flow: Tensor | None = None  # (B,H,W,2) in pixels, where it is the image moved by a flow
    in_order: bool = False  # of an engine: each pass that it spent was its own image's
    moved: Tensor | None = (
        None  # (B,C,H,W), maybe outside [0, 1]: what distances are taken to, where that is not `image`
    )


class Lowest(NamedTuple):
    """Of several restarts' ends the one of lowest loss."""

    found: Tensor  # (B, ...) an image, or a flow
    restart: Tensor  # (B,) int64
    loss: Tensor  # (B,)

    def or_lower(self, found: Tensor, nth: int, loss: Tensor) -> "Lowest":
        lower = (loss < self.loss) | (self.loss.isinf() & (nth == 0))
        at = lower.view(-1, *[1] * (found.ndim - 1))
        return Lowest(where(at, found, self.found), where(lower, nth, self.restart), where(lower, loss, self.loss))


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
