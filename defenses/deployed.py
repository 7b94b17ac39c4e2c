"""One of a set's models per user (the disjoint paper, section 3): a function of the seed and the sample number, so that the user
keeps it for every query. What an attacker meets is an ordinary network; there is no randomness at test time.

All members answer and one is listened to: rows of a call share a fixed shape, and a cell of this costs n of a member's.
"""

import torch
from torch import Tensor

from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream, bits, integers, keys
from defenses.base import Defense


class RandomMember(Defense):
    def __init__(self, model: object, version: int = 1) -> None:
        super().__init__(model, version)  # pyright: ignore[reportArgumentType]
        if not hasattr(self.model.network, "heads"):
            raise BenchError("defense=random_member deploys a set; choose a model=set_… with model.member=random")
        self.heads = self.model.network.heads

    def member(self, draw: Draw) -> Tensor:
        """(B,) in 0..n-1."""
        word = bits(keys(draw.seed, Stream.MEMBER, draw.sample), 1)[:, 0]
        return integers(word, len(self.heads))

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        wide, features = [head.in_features for head in self.heads], self.model.features(x)
        logits = [head(part) for head, part in zip(self.heads, features.split(wide, 1), strict=True)]
        return torch.stack(logits)[self.member(draw), torch.arange(len(x), device=x.device)]
