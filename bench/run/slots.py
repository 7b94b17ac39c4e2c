"""The rows in flight of a query attack: what the loop knows of each, beside the attack's own state.

Everything here stays on the device: a tick (`bench.run.tick`) turns one `Slots` into the next without asking the host, and the
host looks at them only now and then (`bench.run.loop`).
"""

import time
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks.base import QueryAttack
from bench.core import rows
from bench.core.rng import Stream, keys
from bench.store.trace import TRACE_AT


class Todo(NamedTuple):
    """Samples to attack; in a group, also the batch neighbours that only fill their places."""

    sample: Tensor  # (B,) int64
    x: Tensor  # (B,C,H,W) in [0, 1]
    y: Tensor  # (B,)
    target: Tensor  # (B,), -1 = untargeted
    live: Tensor  # (B,) bool: correctly classified, to be attacked


class Slots(NamedTuple):
    todo: Todo
    state: Any  # the attack's
    spent: Tensor  # (B,) queries that the sample has drawn
    low: Tensor  # (B,) lowest margin so far
    first_any: Tensor  # (B,) the first query that fooled, wherever it lay; -1 = none
    trace: Tensor  # (B,T) `low` when `spent` reached each checkpoint
    began: Tensor  # (B,) float64 seconds
    live: Tensor  # (B,) bool: under attack
    taken: Tensor  # (B,) bool: attacked, and not yet handed out as finished
    hit: Tensor  # (B,) bool: found an example
    undefined: Tensor  # (B,) bool: the victim's logits were not finite, which ended the attack
    refused: Tensor  # (B,) queries that a defence declined to answer
    first_refused: Tensor  # (B,) the first of them; -1 = none
    image: Tensor  # (B,C,H,W) of the last query; of rows that were never live, the clean image


class Finished(NamedTuple):
    sample: Tensor  # (B,)
    y: Tensor  # (B,)
    target: Tensor  # (B,)
    fooled: Tensor  # (B,) bool
    undefined: Tensor  # (B,) bool: ended by logits that are not finite
    refused: Tensor  # (B,) queries that a defence declined to answer
    first_refused: Tensor  # (B,) the first of them; -1 = none
    queries: Tensor  # (B,) queries drawn
    margin: Tensor  # (B,) lowest margin loss that the attacker saw
    first_any: Tensor  # (B,) the first query that fooled, wherever it lay; -1 = none
    seconds: Tensor  # (B,)
    trace: Tensor  # (B,T) lowest margin at the checkpoints TRACE_AT; NaN beyond the budget
    x: Tensor  # (B,C,H,W) clean
    found: Tensor  # (B,C,H,W) the image of the last query


def load(attack: QueryAttack[Any], todo: Todo, seed: int) -> Slots:
    """Fresh samples; the tensors are their own, so a refill may write into them."""
    todo = rows.cat([todo])
    b, device = len(todo.y), todo.y.device
    none = torch.full((b,), -1, dtype=torch.int64, device=device)
    no = torch.zeros(b, dtype=torch.bool, device=device)
    return Slots(
        todo=todo,
        state=attack.start(todo.x, todo.y, todo.target, keys(seed, Stream.ATTACK, todo.sample)),
        spent=torch.zeros_like(none),
        low=torch.full((b,), torch.inf, device=device),
        first_any=none,
        trace=torch.full((b, len(TRACE_AT)), torch.nan, device=device),
        began=torch.full((b,), time.monotonic(), dtype=torch.float64, device=device),
        live=todo.live.clone(),
        taken=todo.live.clone(),
        hit=no,
        undefined=no.clone(),
        refused=torch.zeros_like(none),
        first_refused=none.clone(),
        image=todo.x.clone(),
    )


def retire(slots: Slots, index: Tensor, budget: int) -> Finished:
    """The finished rows at `index`."""
    ended = rows.take(slots._replace(state=()), index)
    todo, at = ended.todo, checkpoints(index.device)
    ahead = (at > ended.spent[:, None]) & (at <= budget)  # an ended attack keeps its last margin
    return Finished(
        sample=todo.sample,
        y=todo.y,
        target=todo.target,
        fooled=ended.hit,
        undefined=ended.undefined,
        refused=ended.refused,
        first_refused=ended.first_refused,
        queries=ended.spent,
        margin=ended.low,
        first_any=ended.first_any,
        seconds=time.monotonic() - ended.began,
        trace=torch.where(ahead, ended.low[:, None], ended.trace),
        x=todo.x,
        found=ended.image,
    )


@cache
def checkpoints(device: torch.device) -> Tensor:
    """(T,) TRACE_AT, moved once: a copy to the device every tick would stall it."""
    return torch.tensor(TRACE_AT, device=device)
