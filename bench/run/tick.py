"""One tick of a query attack: query, observe, judge, freeze what has finished. A pure function on the device.

No branch depends on a tensor's value, so nothing waits for the host; a row that has finished is frozen by its mask, and what it
is asked until the host looks only fills the call.

Queries ahead: a network call has a fixed number of rows, and where few samples are left most of them would be filler. An attack
that offers `ahead`, a guess of its state after the next output, lets them carry each sample's next queries; one that offers
`otherwise`, the other outcome, too, lets them carry a tree of those (`bench.run.depth`). A guess counts for nothing: the output
for a query ahead is used only where the attack, having observed all outputs before it, asks for that very image bit for bit. So
the records are those of the sequential attack, whatever the guesses were.
"""

from collections.abc import Sequence, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks.base import Branching, Ending, Foresight, QueryAttack
from attacks.losses import margin
from bench.core import rows, success
from bench.core.rng import Draw, Stream
from bench.core.threat import Threat
from bench.core.victim import Victim
from bench.run.slots import Slots, Todo, checkpoints


class Game(NamedTuple):
    """Who plays, and by which rules."""

    victim: Victim
    attack: QueryAttack[Any]
    threat: Threat


def tick(game: Game, slots: Slots, turn: Tensor | None = None, sizes: Sequence[int] = ()) -> Slots:
    """One query for every row. Of a coupled defence: turn (B,) the number of this tick in the row's group, which keys the noise
    of placeholders, too, and `sizes` the rows of each group."""
    victim, attack, _ = game
    group = victim.defense.group
    queried = attack.query(slots.state)
    if group is not None and group.neighbours == "stay":
        queried = torch.where(rows.column(slots.live), queried, slots.image)
    nth = slots.spent if turn is None else turn
    draw = Draw(victim.seed, slots.todo.sample, nth, Stream.DEFENCE)
    return _observed(game, slots, queried, victim.query(queried, draw, slots.live, sizes), slots.live)


class Node(NamedTuple):
    """A query of the first `rows` rows: what they ask if the `parent` has the output that was guessed, or `other`wise."""

    parent: int  # its place in the plan, before this one; -1: the next query, which is no guess
    other: bool
    rows: int


def ahead(game: Game, slots: Slots, plan: Sequence[Node]) -> tuple[Slots, Tensor]:
    """As many queries a row as the plan holds; its first node is all rows' next query. -> the slots, and (2,) int64: outputs that
    were guessed, and guesses that held."""
    victim, attack, _ = game
    asked, draws, depth = _guessed(attack, slots, plan, victim.queries_per_call)
    sample, after = (torch.cat(column) for column in zip(*draws, strict=True))
    draw = Draw(victim.seed, sample, after, Stream.DEFENCE)
    output = victim.forward(torch.cat(asked), draw).split([node.rows for node in plan])
    used = [torch.zeros_like(slots.live[: node.rows]) for node in plan]
    used[0] = slots.live.clone()  # the slots may be written into below
    at = torch.where(used[0], 0, -1)  # (B,) the last node whose output the row has observed
    slots = _observed_by(game, slots, asked[0], output[0], used[0])
    guesses = torch.zeros(2, dtype=torch.int64, device=at.device)
    straight = {node.parent for node in plan if not node.other}
    for level in range(1, max(depth) + 1):
        nodes = [j for j, far in enumerate(depth) if far == level]
        wanted = _reached(slots.live, at, {plan[j].parent for j in nodes})
        if rows.on_host(wanted) and not wanted.any():
            break
        queried = _query(attack, slots, wanted)
        answer, right = torch.zeros_like(output[0]), torch.zeros_like(slots.live)
        for j in nodes:
            first, parent, other = slice(0, plan[j].rows), plan[j].parent, plan[j].other
            among = slots.live[first] & (at[first] == parent)
            same = (queried[first] == asked[j]).flatten(1).all(1)
            used[j] = among & same & ~right[first]  # where both outcomes lead to the same query, it counts once
            answer[first] = torch.where(used[j][:, None], output[j], answer[first])
            right[first] |= used[j]
            if not other or parent not in straight:
                guesses = guesses + torch.stack([among.sum(), (among & (~same if other else same)).sum()])
        for j in nodes:
            at[: plan[j].rows].masked_fill_(used[j], j)
        slots = _observed_by(game, slots, queried, answer, right)
    victim.meter_ahead(sample, torch.cat(used))
    return slots, guesses


def _guessed(
    attack: QueryAttack[Any], slots: Slots, plan: Sequence[Node], cost: int
) -> tuple[list[Tensor], list[Any], list[int]]:
    """What each node asks, its (sample, draw number)s, and how many outputs it lies ahead."""
    assert isinstance(attack, Foresight)
    states, asked, draws, depth = [slots.state], list[Tensor](), [], [0]
    for j, (parent, other, width) in enumerate(plan):
        if j:
            first = slice(0, width)
            state, queried = rows.take(states[parent], first), asked[parent][first]
            if other:
                assert isinstance(attack, Branching)
                states.append(attack.otherwise(state, queried))
            else:
                states.append(attack.ahead(state))
            depth.append(depth[parent] + 1)
        asked.append(attack.query(states[j]))
        draws.append((slots.todo.sample[:width], slots.spent[:width] + depth[j] * cost))
    return asked, draws, depth


def _reached(live: Tensor, at: Tensor, parents: Set[int]) -> Tensor:
    """(B,) bool: the live rows whose outputs led them to one of these nodes; where looking costs something, all live ones."""
    if not rows.on_host(at):
        return live
    return live & torch.isin(at, torch.tensor(sorted(parents)))


def _query(attack: QueryAttack[Any], slots: Slots, wanted: Tensor) -> Tensor:
    """(B,C,H,W): what the `wanted` rows ask next."""
    index = wanted.nonzero()[:, 0] if rows.on_host(wanted) else None
    if index is None or len(index) == len(wanted):
        return attack.query(slots.state)
    return slots.image.index_copy(0, index, attack.query(rows.take(slots.state, index)))


def _observed_by(game: Game, slots: Slots, queried: Tensor, output: Tensor, right: Tensor) -> Slots:
    """`_observed` for the rows that did ask; the others keep their state."""
    if rows.on_host(right):
        index = right.nonzero()[:, 0]
        if not len(index):
            return slots
        if len(index) == len(right):
            return _observed(game, slots, queried, output, right)
        new = _observed(game, rows.take(slots, index), queried[index], output[index], right[index])
        return rows.put(slots, index, new)
    new = _observed(game, slots, queried, output, right)
    return new._replace(state=rows.where(right, new.state, slots.state))


def _observed(game: Game, slots: Slots, queried: Tensor, output: Tensor, live: Tensor) -> Slots:
    """The slots with this output noted for the `live` rows."""
    victim, attack, threat = game
    cost, todo = victim.queries_per_call, slots.todo
    answered = success.defined(output)
    refused = live & ~answered if victim.defense.traits.refuses else None
    observed = _told(game, output, answered, todo)
    may_end = attack.candidate(slots.state, observed)
    spent = slots.spent + (live if cost == 1 else live * cost)
    heard = live & answered
    undefined = live ^ heard if refused is None else torch.zeros_like(live)
    wrong = heard & success.named_wrongly(output, todo.y, todo.target)
    loss = torch.where(heard, margin(output, todo.y, todo.target), torch.inf)
    least = torch.minimum(slots.low, loss)
    hit = threat.contains(todo.x, queried, among=wrong & may_end)
    over = live & (spent > threat.queries - cost)  # the next query is not affordable
    state = attack.observe(slots.state, queried, observed)
    if isinstance(attack, Ending):
        over = over | (live & attack.ended(state))
    if refused is not None:
        first = torch.where(refused & (slots.first_refused < 0), spent, slots.first_refused)
        slots = slots._replace(refused=slots.refused + refused * cost, first_refused=first)
    return slots._replace(
        state=state,
        spent=spent,
        low=least,
        first_any=torch.where(wrong & (slots.first_any < 0), spent, slots.first_any),
        trace=torch.where(_passed(spent, cost) & live[:, None], least[:, None], slots.trace),
        live=slots.live > (hit | over | undefined),  # it was, and is not over
        hit=slots.hit | hit,
        undefined=slots.undefined | undefined,
        image=_shown(live, queried, slots.image),
    )


def _shown(live: Tensor, queried: Tensor, image: Tensor) -> Tensor:
    """(B,C,H,W): what the live rows queried; the other rows' last."""
    if rows.on_host(live) and live.all():
        return queried.clone()  # a refill may write into it
    return torch.where(rows.column(live), queried, image)


def _passed(spent: Tensor, cost: int) -> Tensor:
    """(B,T) bool: did the last answer reach the checkpoint?"""
    if cost == 1:
        return spent[:, None] == checkpoints(spent.device)
    over = spent[:, None] - checkpoints(spent.device)
    return (over >= 0) & (over < cost)


SURE = 10.0  # logits apart


def _told(game: Game, output: Tensor, answered: Tensor, todo: Todo) -> Tensor:
    """What the attacker reads of an output. A refusal is a query in vain: to an attack that knows none of it, an answer that is
    sure of the true class; one with `reads_refusals` sees the logits that are not finite."""
    if game.victim.defense.traits.refuses and not getattr(game.attack, "reads_refusals", False):
        in_vain = torch.zeros_like(output).scatter_(1, todo.y[:, None], SURE)
        output = torch.where(answered[:, None], output, in_vain)
    return output.argmax(1) if game.attack.feedback == "label" else output
