"""A network with images that it gets right, for comparisons with independent attacks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.core import rows
from bench.core.threat import Threat
from bench.core.victim import FixedRows, Ledger, Victim
from bench.report import values
from bench.run import loop, slots
from defenses.none import Undefended

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Scene:
    """A network and images that it gets right."""

    network: Any
    x: Tensor  # (B,C,H,W) in [0, 1]
    y: Tensor  # (B,)

    def first(self, n: int) -> "Scene":
        return Scene(self.network, self.x[:n], self.y[:n])

    def play(self, attack: Any, threat: Threat, seed: int = 0, target: Tensor | None = None) -> slots.Finished:
        """Our loop on all images, sorted by their number."""
        fixed = FixedRows(self.network, 64, torch.float32, Ledger(len(self.y), CPU))
        victim = Victim(Undefended(fixed), fixed, seed)
        aim = torch.full_like(self.y, -1) if target is None else target
        todo = slots.Todo(torch.arange(len(self.y)), self.x, self.y, aim, torch.ones_like(self.y, dtype=torch.bool))
        ticks = loop.run(victim, attack, threat, loop.Feed(iter([todo])), 64)
        found = rows.cat([look.finished for look in ticks if look.finished is not None])
        return rows.take(found, found.sample.argsort())

    def slow(self, attack: Callable[..., tuple[bool, int]], **settings: Any) -> tuple[Tensor, Tensor]:
        """fooled (B,), queries (B,) of a single-image attack `attack(logits_of, x, y, seed, **settings)`."""
        with torch.no_grad():
            found = [
                attack(lambda image: self.network(image[None])[0], x, int(y), seed, **settings)
                for seed, (x, y) in enumerate(zip(self.x, self.y, strict=True))
            ]
        return torch.tensor([f for f, _ in found]), torch.tensor([q for _, q in found])


def agree(ours: slots.Finished, fooled: Tensor, queries: Tensor) -> None:
    """Success and mean queries of two runs of the same method with other random numbers, on the same images: the mean
    difference per image lies within 1.7 times its 95% interval, which is one of 99.9% (or within one image in a hundred)."""
    for a, b, least in ((ours.fooled, fooled, 0.01), (ours.queries, queries, 0.01 * float(queries.max()))):
        gap = values.mean((a.float() - b.float()).numpy())
        assert abs(gap.value) <= max(1.7 * (gap.high - gap.low) / 2, least), (a.float().mean(), b.float().mean(), gap)


def right(network: nn.Module, x: Tensor, y: Tensor, n: int) -> Scene:
    with torch.no_grad():
        index = (network(x).argmax(1) == y).nonzero()[:n, 0]
    assert len(index) == n
    return Scene(network, x[index], y[index])
