"""White-box attacks, engines and replayed images on a cell's samples: one returned image a sample, judged by one fresh answer."""

import time
from typing import Any

import torch
from torch import Tensor

from attacks.base import Found, GradientAttack, Oracle, Rows
from attacks.losses import margin
from attacks.oracles.gradients import Watched
from bench.core import success
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys
from bench.core.threat import Threat
from bench.run.context import Clean, Run, mates, not_attacked, rows_in_flight, side_by_side, to_attack
from bench.run.slots import Todo
from bench.store import images

COUNTS = ("white_box", "backward")


def attack_all(work: Run, attack: GradientAttack, oracle: Oracle | None, wanted: list[list[int]], clean: Clean) -> None:
    """Attacks what is missing, block by block, and writes each block when it ends. Rows that wrongly answer when clean are
    recorded and not attacked, unless the attack wants them (`wrong_too`); in a group they are placeholders."""
    done, group = work.cell.positions(), work.victim.defense.group
    everyone = getattr(attack, "wrong_too", False)
    missing = [block for block in wanted if not done.issuperset(block)]
    if group is None:
        flat = [p for block in missing for p in block if p not in done]
        wrong = [p for p in flat if not (clean.right[p] or everyone)]
        right = [p for p in flat if clean.right[p] or everyone]
        size = rows_in_flight(work, len(right))
        blocks = [right[start : start + size] for start in range(0, len(right), size)]
        if attack.chunk:  # what an engine finds depends on who else is in its chunk, so chunks are those of the order
            blocks = [some for block in missing if (some := [p for p in block if p not in done and clean.right[p]])]
        work.line.begin(len(flat))
        work.write(not_attacked(work, wrong, clean))
        work.line.add(len(wrong), broken=len(wrong))
        for positions in blocks:
            _block(work, attack, oracle, to_attack(work, positions, clean, [True] * len(positions)), positions, clean)
        return
    work.line.begin(sum(map(len, missing)))
    several = missing if attack.chunk else side_by_side(work, missing)  # an engine takes a batch for one group
    for block in several:
        positions = mates(work, block)
        live = [i < len(block) and (clean.right[p] or everyone) for i, p in enumerate(positions)]
        wrong = [p for p in block if not (clean.right[p] or everyone)]
        work.victim.defense.reset()
        work.write(not_attacked(work, wrong, clean))
        work.line.add(len(wrong), broken=len(wrong))
        if any(live):
            _block(work, attack, oracle, to_attack(work, positions, clean, live), positions, clean)


def _block(
    work: Run, attack: GradientAttack, oracle: Oracle | None, todo: Todo, positions: list[int], clean: Clean
) -> None:
    victim, threat, began = work.victim, work.spec.threat, time.monotonic()
    rows = Rows(todo.sample, todo.y, todo.target, keys(victim.seed, Stream.ATTACK, todo.sample))
    watched = Watched.over(oracle, victim.ledger.samples, todo.y.device)
    before = [victim.ledger.count[name][todo.sample] for name in COUNTS]
    try:
        found = attack(watched, todo.x, rows)
        victim.check_range()
    except torch.OutOfMemoryError:
        raise BenchError(
            f"out of device memory with {len(positions)} images side by side; set slots={victim.rows} (or a smaller "
            "defense.group.size, numerics.rows)"
        ) from None
    spent = [victim.ledger.count[name][todo.sample] - b for name, b in zip(COUNTS, before, strict=True)]
    seconds = (time.monotonic() - began) / max(int(todo.live.sum()), 1)
    work.line.asked(int(spent[0].sum()))
    if work.runtime.keep_images:  # before the records: a sample with a record has its image
        kept = (todo.sample, found.image, todo.x)
        images.keep(work.runtime.artifacts, work.cell.key, *(each[todo.live] for each in kept))
    work.write(_records(work, threat, attack, todo, positions, clean, found, spent, watched, seconds))


def _records(
    work: Run,
    threat: Threat,
    attack: GradientAttack,
    todo: Todo,
    positions: list[int],
    clean: Clean,
    found: Found,
    spent: list[Tensor],
    watched: Watched,
    seconds: float,
) -> list[dict[str, Any]]:
    """Rows of the store. What an engine that mixes its rows, or a replay, spends has no sample: those columns stay
    empty. An engine's gradients are noted with the sample whose number their row borrowed."""
    victim, live, image = work.victim, todo.live, found.image.detach()
    victim.defense.reset()
    logits = success.fresh_logits(victim, image, todo.sample, live)
    inside = threat.contains(todo.x, image)
    hit = success.fooled(logits, todo.y, todo.target) & live & inside
    undefined = live & ~success.defined(logits)
    held: list[float | None] = [None] * len(live)
    if victim.defense.traits.stochastic:  # all of them: one answer's luck goes both ways
        share = success.re_evaluation_success(
            victim, image, todo.y, todo.target, todo.sample, work.spec.re_evaluations, live
        )
        held = [s * i for s, i in zip(share.tolist(), inside.tolist(), strict=True)]
    delta = ((image if found.moved is None else found.moved).double() - todo.x.double()).flatten(1)
    calls = watched.calls[todo.sample]
    columns = {
        "sample": todo.sample, "label": todo.y, "target": todo.target, "fooled": hit, "undefined": undefined,
        "restart": found.restart,
        "margin": margin(logits, todo.y, todo.target), "linf": delta.abs().amax(1), "l2": delta.norm(dim=1),
        "l1": delta.abs().sum(1), "flow": _mean_length(found.flow, delta),
        "passes_fwd": spent[0], "passes_bwd": spent[1], "calls": calls,
        "grad_zero": watched.zero[todo.sample] / calls.clamp_min(1),
        "grad_nonfinite": watched.broken[todo.sample] / calls.clamp_min(1),
    }  # fmt: skip
    plain = {name: column.tolist() for name, column in columns.items()}
    records = []
    for i in live.nonzero()[:, 0].tolist():
        row = {name: column[i] for name, column in plain.items()}
        asked = row.pop("calls") > 0
        right = clean.right[positions[i]]
        row |= {"position": positions[i], "clean": right, "seconds": seconds, "re_evaluation_success": held[i]}
        row["fooled"] = row["fooled"] and right  # of the others, `margin` says whether they are right now
        row["target"] = None if row["target"] < 0 else row["target"]
        row |= {"flow": None} if found.flow is None else {}
        if not asked or (attack.chunk and not found.in_order):
            row |= dict.fromkeys(("passes_fwd", "passes_bwd"))
        if not asked:
            row |= dict.fromkeys(("grad_zero", "grad_nonfinite"))
        records.append(row)
    work.line.add(len(records), broken=sum(row["fooled"] or not row["clean"] for row in records))
    return records


def _mean_length(flow: Tensor | None, other: Tensor) -> Tensor:
    """(B,) mean |v| of each row's flow in pixels."""
    return other.new_zeros(len(other)) if flow is None else flow.detach().double().norm(dim=-1).flatten(1).mean(1)
