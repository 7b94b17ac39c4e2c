"""Which queries ahead fill a network call: a tree of what each row may come to ask, the likeliest first.

A guess of the next output holds with a chance that is estimated from those seen so far. A query comes true if all guesses on the
way to it do, so its chance is their product; where the other outcome is known, too, both branches grow. With 14 rows each
and rejections in 73% of cases, the most likely chain is worth 3.7 queries a call, the tree 4.9.
"""

import heapq
from collections.abc import Iterator
from itertools import count

from bench.run.tick import Node

WORTH = (
    0.05  # guesses that hold less often than this are not worth their arithmetic, where the other outcome is not known
)
UNLIKELY = 0.01  # nor is a query that comes true less often; its row of the network call is there anyway
RETRY = 16  # looks after which it is tried again
STEPS = 20  # the chance is rounded to so many: a plan that changes with each look could not be recorded
MOST = 128  # nodes: each starts some kernels of its own


class Depth:
    """branches: does the attack know the other outcome?"""

    def __init__(self, branches: bool) -> None:
        self.branches = branches
        self.tested = self.held = self.idle = 0.0

    def noted(self, tested: int, held: int) -> None:
        # the last looks count most: an attack's phases differ
        self.tested, self.held = self.tested / 2 + tested, self.held / 2 + held

    def plan(self, alive: int, capacity: int) -> tuple[Node, ...]:
        """For `alive` rows in calls of `capacity` rows; the first node is what they ask anyway."""
        chance = round(STEPS * self.held / self.tested) / STEPS if self.tested else 1.0
        if chance < WORTH and not self.branches:
            self.idle += 1
            if self.idle % RETRY:
                return (Node(-1, False, alive),)
            chance = WORTH
        full, rest = divmod(capacity, alive)
        sizes = [alive] * full + [rest] * (rest > 0)
        nodes = zip(sizes[:MOST], _tree(chance, self.branches), strict=False)
        return tuple(Node(parent, other, rows) for rows, (parent, other) in nodes)


def _tree(chance: float, branches: bool) -> Iterator[tuple[int, bool]]:
    """(parent, other) of node after node, by falling chance; a parent comes before its children."""
    outcomes = [(chance, False), (1 - chance, True)] if branches else [(chance, False)]
    waiting, number, ties = [(-1.0, 0, -1, False)], 0, count(1)
    while waiting:
        minus, _, parent, other = heapq.heappop(waiting)
        yield parent, other
        for share, turned in outcomes:
            if -minus * share >= UNLIKELY:
                heapq.heappush(waiting, (minus * share, next(ties), number, turned))
        number += 1
