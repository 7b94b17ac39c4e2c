"""The defended model as an attacker may touch it: it meters every row, keys the defence's noise, and forms the network calls."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bench.core.defended import Defended
from bench.core.errors import BenchError
from bench.core.ledger import Ledger
from bench.core.rng import Draw, Stream
from bench.core.rows import extremes, on_host

METERED = {
    Stream.DEFENCE: "attack",
    Stream.CLEAN: "clean",
    Stream.RE_EVALUATION: "re_evaluation",
    Stream.JUDGE: "re_evaluation",
}

Forward = Callable[[Tensor, Draw], Tensor]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
Index = Tensor | slice


class Evaluation(NamedTuple):
    """What a white-box attacker gets for a batch."""

    loss: Tensor  # (B,), what the attacker minimises
    grad: Tensor  # (B,C,H,W), its gradient at x
    logits: Tensor  # (B,K)


class Call(NamedTuple):
    """One network call: `rows` numbers of the batch's rows, of which the first `real` are no filler."""

    rows: Index
    real: Index  # the numbers of those
    size: int  # `real` of them


def padded(rows: int, size: int, device: torch.device, among: Tensor | None = None) -> Iterator[Call]:
    """Calls of exactly `size` rows over a batch of `rows`, or over those `among` (R,) of it; the last is filled with copies of
    its first row. Full calls are slices, which copy nothing."""
    total = rows if among is None else len(among)
    for start in range(0, total, size):
        n = min(size, total - start)
        part = slice(start, start + n)
        real = part if among is None else among[part]
        if n == size:
            yield Call(real, real, n)
            continue
        numbers = torch.arange(start, start + n, device=device) if among is None else among[part]
        yield Call(torch.cat([numbers, numbers[:1].expand(size - n)]), real, n)


class FixedRows(nn.Module):
    """A split model whose network calls all have exactly `rows` rows, since float32 outputs depend on the batch shape. It
    takes images in `dtype` and answers in float32."""

    network: Any  # features, head

    def __init__(self, model: nn.Module, rows: int, dtype: torch.dtype, ledger: Ledger) -> None:
        super().__init__()
        self.network, self.rows, self.dtype, self.ledger = model, rows, dtype, ledger
        # replaced by its compiled form where numerics.compile is set
        self.run: Callable[[Tensor], Tensor] = self.network.features
        self.of: list[tuple[Tensor, Tensor]] = []  # images (b,C,H,W) and their features, while `known`

    asker = "this defence"  # who takes features and head apart: named where the network has no such parts

    @property
    def head(self) -> nn.Module:
        """Raises BenchError where no Linear ends the network."""
        if hasattr(self.network.head, "name"):
            raise BenchError(
                f"{self.asker} works on the features before a last Linear, and {self.network.head.name} ends with none; choose a "
                "defence that takes the network whole, or a network that ends with a Linear"
            )
        return self.network.head

    def features(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,d) float32. Raises BenchError where no Linear ends the network."""
        assert self.head is not None
        known = next((features for images, features in self.of if images is x), None)
        return self._features(x) if known is None else known

    @contextmanager
    def known(self, x: Tensor, sizes: list[int]) -> Iterator[list[Tensor]]:
        """-> x in parts, of which `features` knows the answer without another call as long as this lasts."""
        images = list(x.split(sizes))
        try:
            self.of = list(zip(images, self.features(x).split(sizes), strict=True))
            yield images
        finally:
            self.of = []

    def _features(self, x: Tensor) -> Tensor:
        parts = []
        for call in padded(len(x), self.rows, x.device):
            self.ledger.filler += self.rows - call.size
            parts.append(self.run(x[call.rows].to(self.dtype)).float()[: call.size])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.network.head(self._features(x))


class Victim:
    """x (B,C,H,W) in [0, 1] -> logits (B,K). Nothing here waits for the device but `check_range`, which raises BenchError and
    names the samples that were queried outside [0, 1]. Logits that are not finite are the caller's to record."""

    def __init__(self, defense: Defended, model: FixedRows, seed: int) -> None:
        self.defense, self.model, self.rows, self.ledger, self.seed = defense, model, model.rows, model.ledger, seed
        self.ledger.companions += defense.companion_rows
        self.queries_per_call = defense.queries_per_call
        self.surrogate: nn.Module | None = None  # the attacker's own network beside it, where the attack needs one
        self.outside = torch.zeros(self.ledger.samples, dtype=torch.int64, device=self.ledger.device)

    @torch.no_grad()
    def query(self, x: Tensor, draw: Draw, live: Tensor, sizes: Sequence[int] = ()) -> Tensor:
        """Rows that are not `live` (B,) are answered, but not metered as queries: in a group they are placeholders, elsewhere
        filler. sizes: as for `forward`."""
        self.ledger.add(METERED[draw.stream], draw.sample, live * self.queries_per_call)
        if self.defense.traits.coupled:
            self.ledger.add("placeholder", draw.sample, ~live)
        else:
            self.ledger.filler += (
                len(live) * self.queries_per_call
            )  # of them those that are not idle, counted on the device:
            self.ledger.idle -= live.sum() * self.queries_per_call
        return self.forward(x, draw, sizes)

    @torch.no_grad()
    def forward(self, x: Tensor, draw: Draw, sizes: Sequence[int] = ()) -> Tensor:
        """The logits, in calls of exactly `rows` rows or, coupled, a group at a time; nothing but filler is metered. What
        follows the features depends on the shape, too (UniG's small matrix products), so the defence itself gets whole calls.

        sizes: the rows of each group that lies in x; () for groups of the size that the defence names."""
        self._note_range(x, draw.sample)
        if self.defense.traits.coupled:
            return self._by_groups(self.defense, x, draw, sizes)
        parts = []
        for call in padded(len(x), self.rows, x.device):
            self.ledger.filler += (self.rows - call.size) * self.queries_per_call
            parts.append(self.defense(x[call.rows], draw.rows(call.rows))[: call.size])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def groups_of(self, rows: int) -> list[int]:
        """The sizes of the groups in a batch of so many rows: whole ones, the last of what is left; [] without coupling."""
        group = self.defense.group
        return [] if group is None else [min(group.size, rows - at) for at in range(0, rows, group.size)]

    @property
    def shares_calls(self) -> bool:
        """May one call hold rows that don't belong together: other samples, groups, draws?"""
        traits = self.defense.traits
        return not traits.stateful and (not traits.coupled or self.defense.couples_behind_features)

    def _by_groups(self, forward: Forward, x: Tensor, draw: Draw, sizes: Sequence[int] = ()) -> Tensor:
        """(B,K): each group answered as a batch of its own. Where rows meet behind the features alone, the network sees all
        groups at once: its rows don't depend on each other."""
        ends = list(accumulate(sizes or self.groups_of(len(x))))
        parts = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        if len(parts) == 1:
            return forward(x, draw)
        assert self.defense.couples_behind_features, "groups share no call where rows meet within the network"
        with self.model.known(x, [part.stop - part.start for part in parts]) as images:
            return torch.cat([forward(each, draw.rows(part)) for each, part in zip(images, parts, strict=True)])

    def meter_ahead(self, sample: Tensor, used: Tensor) -> None:
        """Of the rows that `forward` answered ahead, those `used` (B,) are the attacker's queries; the others are discarded."""
        self.ledger.add("attack", sample, used * self.queries_per_call)
        self.ledger.discarded += (~used).sum() * self.queries_per_call

    def passes(self, sample: Tensor) -> Tensor:
        """(B,) how often a white-box attacker has sent each sample through."""
        return self.ledger.count["white_box"][sample]

    def gradient(
        self, x: Tensor, draw: Draw, y: Tensor, target: Tensor, loss: Loss, live: Tensor, forward: Forward
    ) -> Evaluation:
        """The loss, its gradient at x and the logits of the `live` rows (zeros elsewhere), for an attacker who has the network.

        forward: the defence, or the same with another backward pass. In a group the loss is the sum over its live rows.
        """
        self.ledger.add("backward", draw.sample, live)
        coupled, rows, parts, answer = self.defense.traits.coupled, [], [], self._whole(forward)
        for call in self._white_box_calls(x, draw, live):
            leaf = x[call.rows].detach().requires_grad_()
            with torch.enable_grad():
                logits = answer(leaf, draw.rows(call.rows))
                each = loss(logits, y[call.rows], target[call.rows])
                total = torch.where(live, each, 0.0) if coupled else each
                (grad,) = torch.autograd.grad(total.sum(), leaf)
            rows.append(call.real)
            parts.append(Evaluation(*(part[: call.size].detach() for part in (each, grad, logits))))
        return Evaluation(*(_spread(rows, list(column), live) for column in zip(*parts, strict=True)))

    @torch.no_grad()
    def forward_only(self, x: Tensor, draw: Draw, live: Tensor) -> Tensor:
        """Logits (B,K) of the live rows, zeros elsewhere; a white-box attacker's forward pass."""
        rows, parts = [], []
        for call in self._white_box_calls(x, draw, live):
            rows.append(call.real)
            parts.append(self._whole(self.defense)(x[call.rows], draw.rows(call.rows))[: call.size])
        return _spread(rows, parts, live)

    def _whole(self, forward: Forward) -> Forward:
        """`forward`, which gets whole groups where the defence is coupled."""
        return partial(self._by_groups, forward) if self.defense.traits.coupled else forward

    def through(self, x: Tensor, draw: Draw, forward: Forward) -> Tensor:
        """(B,K) logits for an engine that differentiates by itself. Every row is counted."""
        everyone = torch.ones(len(x), dtype=torch.bool, device=x.device)
        calls = self._white_box_calls(x.detach(), draw, everyone)
        return torch.cat([self._whole(forward)(x[call.rows], draw.rows(call.rows))[: call.size] for call in calls])

    def _white_box_calls(self, x: Tensor, draw: Draw, live: Tensor) -> Iterator[Call]:
        """Exactly `rows` rows a call; a coupled defence gets whole groups. Which rows are live is known to the host on a CPU
        alone: there the others cost nothing; elsewhere asking would cost more than their passes, which are metered as filler."""
        self._note_range(x, draw.sample)
        self.ledger.add("white_box", draw.sample, live)
        if self.defense.traits.coupled:
            self.ledger.add("placeholder", draw.sample, ~live)
            yield Call(slice(None), slice(None), len(x))
            return
        among = live.nonzero()[:, 0] if on_host(live) else None
        if among is None or not len(among):  # at least one call: it says how many classes there are
            self.ledger.idle += (~live).sum()
        for call in padded(len(x), self.rows, x.device, among if among is None or len(among) else None):
            self.ledger.filler += self.rows - call.size
            yield call

    def _note_range(self, x: Tensor, sample: Tensor) -> None:
        low, high = extremes(x.flatten(1))
        self.outside.index_add_(0, sample, ((low < 0) | (high > 1)).long())

    def check_range(self) -> None:
        """Waits for the device. Raises BenchError where an image outside [0, 1] was queried."""
        if samples := self.outside.nonzero()[:, 0].tolist():
            raise BenchError(
                f"images outside [0, 1]: samples {numbers(samples)}; scale pixels to [0, 1] "
                "(normalisation is a layer of the model)"
            )


def _spread(rows: list[Index], parts: list[Tensor], live: Tensor) -> Tensor:
    """(B, ...) with each part at its rows, and zeros where a row is not live."""
    if len(parts) == 1 and len(parts[0]) == len(live):
        whole = parts[0]
    else:
        whole = parts[0].new_zeros(len(live), *parts[0].shape[1:])
        for at, part in zip(rows, parts, strict=True):
            whole[at] = part
    return torch.where(live.view(-1, *[1] * (whole.ndim - 1)), whole, 0.0)


def numbers(samples: list[int]) -> str:
    """The first few sample numbers, for a message."""
    return ", ".join(map(str, samples[:8])) + (f" and {len(samples) - 8} more" if len(samples) > 8 else "")


def check_rows(victim: Victim, x: Tensor, sample: Tensor) -> None:
    """Refuses a model whose rows depend on each other without its traits saying so: permutes one block (unmetered: filler)."""
    if victim.defense.traits.coupled:
        return
    block, number = x[: victim.rows], sample[: victim.rows]
    index = torch.arange(len(block) - 1, -1, -1, device=x.device)
    none = torch.zeros(len(block), dtype=torch.bool, device=x.device)
    draw = Draw(victim.seed, number, torch.zeros_like(number), Stream.CLEAN)
    straight = victim.query(block, draw, none)
    if not torch.equal(straight.nan_to_num(), victim.query(block, draw, none).nan_to_num()):
        raise BenchError(
            f"{type(victim.defense).__name__}: the same images with the same draw get other logits the second time; the defence "
            "draws noise that is not keyed: use draw.key(), or it remembers: `reset` must forget"
        )
    turned = victim.query(block[index], draw.rows(index), none)[index]
    if not torch.equal(straight.nan_to_num(), turned.nan_to_num()):
        delta = float((straight - turned).abs().max())
        raise BenchError(
            f"{type(victim.defense).__name__}: a row's logits change by up to {delta:.2g} with its place in the batch; "
            "declare Traits(coupled=True) and a group, or choose other numerics (numerics.compile=false, another dtype)"
        )
