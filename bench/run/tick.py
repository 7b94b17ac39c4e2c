"""One tick of a query attack: query, observe, judge, freeze what has finished. A pure function on the device.

No branch depends on a tensor's value, so nothing waits for the host; a row that has finished is frozen by its mask, and what it
is asked until the host looks only fills the call.

Queries ahead: a network call has a fixed number of rows, and where few samples are left most of them would be filler. An attack
that offers `ahead`, a guess of its state after the next output, lets them carry each sample's next queries. A guess counts for
nothing: the output for a query ahead is used only where the attack, having observed all outputs before it, asks for that very
image bit for bit. So the records are those of the sequential attack, whatever the guesses were.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attacks.base import Ending, Foresight, QueryAttack
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


def ahead(game: Game, slots: Slots, widths: Sequence[int]) -> tuple[Slots, Tensor]:
    """As many queries a row as the call has room for. widths: how many rows, from the first on, ask 1, 2, ... ahead; the first is
    all. -> the slots, and (2,) int64: guesses that were put to the test, and those that held. The first of a row that fails ends
    its test, whatever else was asked ahead."""
    victim, attack, _ = game
    assert isinstance(attack, Foresight)
    guess, queried, draws = slots, [], []
    for nth, width in enumerate(widths):
        guess = rows.take(guess, slice(0, width)) if width < len(guess.live) else guess
        queried.append(attack.query(guess.state))
        draws.append((guess.todo.sample, guess.spent + nth * victim.queries_per_call))
        guess = guess._replace(state=attack.ahead(guess.state)) if nth + 1 < len(widths) else guess
    sample, nth = (torch.cat(column) for column in zip(*draws, strict=True))
    output = victim.forward(torch.cat(queried), Draw(victim.seed, sample, nth, Stream.DEFENCE)).split(list(widths))
    right, used = slots.live.clone(), []  # the slots may be written into below
    tested = torch.zeros(2, dtype=torch.int64, device=right.device)
    for turn, (asked, answer) in enumerate(zip(queried, output, strict=True)):
        width = len(asked)
        if turn:
            again = attack.query(rows.take(slots.state, slice(0, width)))
            candidates = right[:width] & slots.live[:width]
            right = candidates & (again == asked).flatten(1).all(1)
            tested = tested + torch.stack([candidates.sum(), right.sum()])
        used.append(right)
        slots = _observed_by(game, slots, asked, answer, right)
    victim.meter_ahead(sample, torch.cat(used))
    return slots, tested


def _observed_by(game: Game, slots: Slots, queried: Tensor, output: Tensor, right: Tensor) -> Slots:
    """`_observed` for those of the first rows whose guess was right; the others keep their state."""
    width = len(right)
    if rows.on_host(right):
        index = right.nonzero()[:, 0]
        if not len(index):
            return slots
        if len(index) == len(slots.live):
            return _observed(game, slots, queried, output, right)
        new = _observed(game, rows.take(slots, index), queried[index], output[index], right[index])
        return rows.put(slots, index, new)
    first = rows.take(slots, slice(0, width))
    new = _observed(game, first, queried, output, right)
    new = new._replace(state=rows.where(right, new.state, first.state))
    return new if width == len(slots.live) else rows.cat([new, rows.take(slots, slice(width, None))])


def _observed(game: Game, slots: Slots, queried: Tensor, output: Tensor, live: Tensor) -> Slots:
    """The slots with this output noted for the `live` rows."""
    victim, attack, threat = game
    cost, todo = victim.queries_per_call, slots.todo
    answered = success.defined(output)
    refused = live & ~answered if victim.defense.traits.refuses else None
    observed = _told(game, output, answered, todo)
    may_end = attack.candidate(slots.state, observed)
    spent = slots.spent + live * cost
    undefined = live & ~answered if refused is None else torch.zeros_like(live)
    wrong = live & success.fooled(output, todo.y, todo.target)
    loss = torch.where(live & answered, margin(output, todo.y, todo.target), torch.inf)
    least = torch.minimum(slots.low, loss)
    passed = spent[:, None] - checkpoints(spent.device)
    hit = threat.contains(todo.x, queried, among=wrong & may_end)
    over = live & (spent + cost > threat.queries)  # the next query is not affordable
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
        trace=torch.where((passed >= 0) & (passed < cost) & live[:, None], least[:, None], slots.trace),
        live=slots.live & ~(hit | over | undefined),
        hit=slots.hit | hit,
        undefined=slots.undefined | undefined,
        image=torch.where(rows.column(live), queried, slots.image),
    )


SURE = 10.0  # logits apart


def _told(game: Game, output: Tensor, answered: Tensor, todo: Todo) -> Tensor:
    """What the attacker reads of an output. A refusal is a query in vain: to an attack that knows none of it, an answer that is
    sure of the true class; one with `reads_refusals` sees the logits that are not finite."""
    if game.victim.defense.traits.refuses and not getattr(game.attack, "reads_refusals", False):
        in_vain = torch.zeros_like(output).scatter_(1, todo.y[:, None], SURE)
        output = torch.where(answered[:, None], output, in_vain)
    return output.argmax(1) if game.attack.feedback == "label" else output
