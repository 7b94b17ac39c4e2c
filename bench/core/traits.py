"""What a defended model declares of itself, and how the rows of a coupled one share a batch. Imports no torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from bench.core.errors import BenchError

Neighbours = Literal["leave", "stay", "companions", "copies"]


@dataclass(frozen=True)
class Traits:
    stochastic: bool = False  # same image, other key, other answer
    coupled: bool = False  # row i's answer depends on the other rows
    stateful: bool = False  # remembers earlier queries; `reset` forgets them
    refuses: bool = False  # may decline to answer a query; its logits are then not finite
    differentiable: bool = True  # autograd gives the true gradient of the forward pass


@dataclass(frozen=True)
class Group:
    """How the rows of a coupled defence share a batch: `size` consecutive samples of the cell's order.

    leave: rows that are wrong when clean or finished drop out (the UniG authors' code: the batch shrinks);
    stay: they keep standing in, unmetered; companions: no group, each query gets its own little batch of fixed images;
    copies: no group, the attacker sends `size` copies of the query as a batch of their own and pays for every answer.
    """

    size: int
    neighbours: Neighbours

    def __post_init__(self) -> None:
        if self.neighbours not in get_args(Neighbours):
            raise BenchError(
                f"defense.group.neighbours={self.neighbours}: it is one of {', '.join(get_args(Neighbours))}"
            )
        if self.size < 1:
            raise BenchError(f"defense.group.size={self.size} must be at least 1")
