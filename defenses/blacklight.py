"""Blacklight (Li, Shan, Wenger, Zhang, Zheng and Zhao 2022, "Blacklight: Scalable Defense for Neural Networks against Query-Based
Black-Box Attacks", section 4): a query that resembles an earlier one is refused.

An image's fingerprint: its pixels in steps of `step` grey levels, a keyed hash of every `window` consecutive ones, of distinct
hashes the `hashes` largest. Two images resemble each other where more than `threshold` hashes of their fingerprints agree. All
queries are remembered, refused ones too.

What it remembers here is the conversation about one sample: a sample's record must not depend on who is attacked beside it. A
deployed one compares with everybody's queries, which adds what images of different samples have in common: false alarms, if the
fingerprint is any good. Answers to others than the attacker (the clean pass, the judge) are not remembered.
"""

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream, mix
from defenses.base import Defense, Traits

NOTHING = torch.iinfo(torch.int64).min  # where an image has fewer distinct windows than `hashes`
SALT = 20220810


class Blacklight(Defense):
    """A refused row's logits are NaN. window: pixels of a hash, in the order row, column, channel. step: grey levels of 255.
    Raises BenchError for settings below 1, a threshold of `hashes` or more, and images with fewer pixels than a window."""

    traits = Traits(stateful=True, refuses=True, differentiable=False)

    def __init__(
        self, model: nn.Module, window: int, hashes: int, step: float, threshold: int, version: int = 1
    ) -> None:
        super().__init__(model, version)
        if min(window, hashes, step) < 1 or not 0 <= threshold < hashes:
            raise BenchError(
                f"defense.window={window}, hashes={hashes} and step={step} must be at least 1, threshold={threshold} at least 0 "
                "and below hashes"
            )
        self.window, self.hashes, self.step, self.threshold = window, hashes, step, threshold
        self.memory: dict[int, Tensor] = {}  # sample -> (n, hashes) fingerprints of its first n queries

    def reset(self) -> None:
        self.memory.clear()

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        logits = self.model(x)
        if draw.stream is not Stream.DEFENCE:
            return logits
        return torch.where(self._seen(self.fingerprints(x), draw)[:, None], torch.nan, logits)

    def approximate(self, x: Tensor, draw: Draw, kind: str) -> Tensor:
        """identity: who has the network asks that, and it remembers nothing."""
        return self.model(x)

    def fingerprints(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B, hashes) int64, in descending order."""
        level = (x * 255 / self.step).round().long().permute(0, 2, 3, 1).flatten(1)
        windows = level.shape[1] - self.window + 1
        if windows < 1:
            raise BenchError(
                f"defense.window={self.window} is longer than an image of {level.shape[1]} numbers; lower it"
            )
        hashed = mix(*(level[:, i : i + windows] for i in range(self.window)), seed=SALT)
        hashed = hashed.sort(1, descending=True).values
        hashed[:, 1:][hashed[:, 1:] == hashed[:, :-1]] = NOTHING
        kept = hashed.sort(1, descending=True).values[:, : self.hashes]
        return nn.functional.pad(kept, (0, self.hashes - kept.shape[1]), value=NOTHING)

    def _seen(self, prints: Tensor, draw: Draw) -> Tensor:
        """(B,) bool. A sample's nth query is compared with those before it and takes the nth place: asked again, as in the rows
        that fill up a call, it is the same query."""
        verdict: dict[tuple[int, int], bool] = {}
        asked = list(zip(draw.sample.tolist(), draw.nth.tolist(), strict=True))
        for each, (sample, nth) in zip(prints, asked, strict=True):
            if (sample, nth) in verdict:
                continue
            past = self.memory.get(sample, prints[:0])[:nth]
            verdict[sample, nth] = bool((shared(each, past) > self.threshold).any())
            self.memory[sample] = torch.cat([past, each[None]])
        return torch.tensor([verdict[each] for each in asked], device=prints.device)


def shared(one: Tensor, others: Tensor) -> Tensor:
    """(S,) and (n,S) fingerprints -> (n,) hashes that they share."""
    ascending = one.flip(0).contiguous()
    place = torch.searchsorted(ascending, others.contiguous()).clamp_max(len(one) - 1)
    return ((ascending[place] == others) & (others != NOTHING)).sum(1)
