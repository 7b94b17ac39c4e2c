"""A set of n networks that one recipe trains: one artifact with tensors `0.…` to `n-1.…`, of which one is deployed.

In YAML: `weights: set`, `members: n`, `member: i | random`, `build`: one architecture, or a list of n. Member i is a Split like
any other. `random` gives a user one of them for good (defense=random_member), which a Split can't know: it answers for all.

Members are called one after the other, not side by side by torch.func.vmap over stack_module_state. On one CPU core, n = 3,
cifar_small, batch 120, a training step by vmap took 1.28 times the loop's time, one with a second-order term 1.35 times (1.77
and 1.44 in channels_last): vmap turns convolutions with weights of their own into grouped ones.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.models.split import Split
from bench.models.weights import load_into


class ModelSet(nn.ModuleList):
    """forward: x (B,C,H,W) in [0, 1] -> logits (n,B,K). Raises BenchError for n < 2 and where members disagree."""

    frozen = 0  # so many of the first members were trained before and stay as they are

    def __init__(self, members: Sequence[Split]) -> None:
        if len(members) < 2:
            raise BenchError(
                f"model.members={len(members)}: a set has at least 2; for one network choose another model"
            )
        for what, each in (("classes", [m.head.out_features for m in members]), ("shape", [m.shape for m in members])):
            if len(set(each)) > 1:
                raise BenchError(
                    f"the members of a set disagree in {what}: {', '.join(map(str, each))}; correct model.build"
                )
        super().__init__(members)

    @property
    def members(self) -> list[Split]:
        return [cast(Split, member) for member in self]

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members])

    def freeze(self, smaller: "ModelSet") -> None:
        """The first members become those of a trained set, and no training changes them: they have no gradient by their weights,
        and batch norm answers by its running statistics."""
        for member, trained in zip(self.members[: len(smaller)], smaller.members, strict=True):
            load_into(member, trained.state_dict(), "the members of this set")
            member.requires_grad_(False)
        self.frozen = len(smaller)
        self.train(self.training)

    def train(self, mode: bool = True) -> "ModelSet":
        super().train(mode)
        for member in self.members[: self.frozen]:
            member.eval()
        return self

    def deploy(self, member: int | str | None) -> Split:
        """Member i, or for `random` all of them as one Split (Together). Raises BenchError for any other."""
        if member == "random":
            return Together(self.members)
        if not isinstance(member, int) or isinstance(member, bool) or not 0 <= member < len(self):
            raise BenchError(
                f"model.member={member} is no member of this set; it is one of 0..{len(self) - 1} or random"
            )
        return self.members[member]


class Together(Split):
    """All members side by side: features (B, n * d), logits the mean of the members'. `heads` are their own."""

    heads: nn.ModuleList

    def __init__(self, members: Sequence[Split]) -> None:
        wide, n = sum(member.head.in_features for member in members), len(members)
        head = nn.Linear(wide, members[0].head.out_features)
        with torch.no_grad():
            head.weight.copy_(torch.cat([member.head.weight for member in members], 1) / n)  # pyright: ignore[reportArgumentType]
            head.bias.copy_(torch.stack([member.head.bias for member in members]).mean(0))  # pyright: ignore[reportArgumentType]
        super().__init__(SideBySide(member.features for member in members), head, members[0].shape)
        self.heads = nn.ModuleList(member.head for member in members)


class SideBySide(nn.ModuleList):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([features(x) for features in self], 1)
