"""What counts as success, in one place, and whether it is still one when a random defence is re-evaluated."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream, integers, keys
from bench.core.victim import Victim

CALLS = 4  # network calls that re-evaluations fill side by side


def fooled(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """(B,) bool: the label is wrong, or the target is hit. Logits that are not finite name no label: they fool nobody."""
    return named_wrongly(logits, y, target) & defined(logits)


def named_wrongly(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """(B,) bool: `fooled`, where it is known which logits are finite."""
    label = logits.argmax(1)
    return torch.where(target >= 0, label == target, label != y)


def defined(logits: Tensor) -> Tensor:
    """(B,) bool: all logits are finite."""
    return logits.abs().amax(1) < torch.inf  # NaN wins a maximum, and is below nothing


def targets(goal: str, y: Tensor, logits: Tensor, sample: Tensor, seed: int) -> Tensor:
    """(B,) the class to drive each sample to, the same for every attack; -1 = untargeted. logits (B,K) on clean images."""
    if goal == "untargeted":
        return torch.full_like(y, -1)
    others = logits.scatter(1, y[:, None], -torch.inf)
    if goal == "runner_up":
        return others.argmax(1)
    if goal == "least_likely":
        return logits.scatter(1, y[:, None], torch.inf).argmin(1)
    if goal == "random":  # uniform over the other classes
        step = integers(keys(seed, Stream.TARGET, sample), logits.shape[1] - 1)
        return (y + 1 + step) % logits.shape[1]
    raise BenchError(f"threat.goal={goal} is unknown; it is one of untargeted, random, least_likely, runner_up")


def re_evaluation_success(
    victim: Victim,
    x: Tensor,
    y: Tensor,
    target: Tensor,
    sample: Tensor,
    times: int,
    live: Tensor | None = None,
    sizes: Sequence[int] = (),
) -> Tensor:
    """(B,) share of `times` fresh outputs on which the image x still fools; metered as re-evaluations. In a group, rows that are
    not `live` (B,) only fill their places. sizes: as for `Victim.forward`. A call holds as many draws as it has room for."""
    b, live = len(y), torch.ones_like(y, dtype=torch.bool) if live is None else live
    sizes, hits = list(sizes) or victim.groups_of(b), torch.zeros(b, device=y.device)
    together = max(1, CALLS * victim.rows // (b * victim.queries_per_call)) if victim.shares_calls else 1
    for start in range(0, times, together):
        k = min(together, times - start)
        nth = torch.arange(start, start + k, device=y.device).repeat_interleave(b)
        draw = Draw(victim.seed, sample.repeat(k), nth, Stream.RE_EVALUATION)
        logits = victim.query(x.repeat(k, 1, 1, 1), draw, live.repeat(k), sizes * k)
        hits += fooled(logits, y.repeat(k), target.repeat(k)).view(k, b).sum(0)
    return hits / times


def fresh_logits(victim: Victim, x: Tensor, sample: Tensor, live: Tensor) -> Tensor:
    """(B,K): one fresh output for the images that a white-box attack returned, by which alone they are judged."""
    return victim.query(x, Draw(victim.seed, sample, torch.zeros_like(sample), Stream.JUDGE), live)
