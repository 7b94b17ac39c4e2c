"""The defended model as an attacker may touch it. Every row that enters the network is counted here, by what it was for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.traits import Group, Traits

COUNTED = {Stream.DEFENCE: "attack", Stream.CLEAN: "clean", Stream.RE_ASK: "re_ask", Stream.JUDGE: "re_ask"}

Forward = Callable[[Tensor, Draw], Tensor]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class Answer(NamedTuple):
    """What a white-box attacker gets for a batch."""

    loss: Tensor  # (B,), what the attacker minimises
    grad: Tensor  # (B,C,H,W), its gradient at x
    logits: Tensor  # (B,K)


@dataclass
class Ledger:
    """Network rows by purpose; per sample where they belong to one. Their sum is what a forward hook sees."""

    samples: int  # highest sample number + 1
    device: torch.device
    filler: int = 0  # rows that only fill a call up to its fixed size; they belong to nobody
    companions: int = 0  # stand-ins that belong to nobody: a defence's own training images
    inner: int = 0  # rows that a defence sends through the network beside the one that it answers with (DENT's steps)
    count: dict[str, Tensor] = field(default_factory=dict)  # (samples,) int64 each

    def __post_init__(self) -> None:
        for name in ("attack", "clean", "re_ask", "stand_in", "white_box", "backward"):
            self.count[name] = torch.zeros(self.samples, dtype=torch.int64, device=self.device)

    def add(self, name: str, sample: Tensor, rows: Tensor) -> None:
        self.count[name].index_add_(0, sample, rows.long())

    def forget_all_but(self, done: set[int]) -> None:
        """Unfinished samples start anew (out of memory): their answers stay counted, but belong to no record."""
        lost = torch.ones(self.samples, dtype=torch.bool, device=self.device)
        lost[torch.tensor(sorted(done), dtype=torch.int64, device=self.device)] = False
        self.filler += int(self.count["attack"][lost].sum())
        self.count["attack"][lost] = 0

    def totals(self) -> dict[str, int]:
        """Forward rows by purpose; backward passes are counted per sample alone."""
        sums = {name: int(rows.sum()) for name, rows in self.count.items() if name != "backward"}
        sums["stand_in"] += self.companions
        return sums | {"filler": self.filler, "inner": self.inner}


class FixedRows(nn.Module):
    """A split model whose network calls all have exactly `rows` rows, since float32 answers depend on the batch shape.

    Short calls are filled with copies of their first row. compute in `dtype`, answer in float32.
    """

    network: Any  # features, head

    def __init__(self, model: nn.Module, rows: int, dtype: torch.dtype, ledger: Ledger) -> None:
        super().__init__()
        self.network, self.rows, self.dtype, self.ledger = model, rows, dtype, ledger
        self.run: Callable[[Tensor], Tensor] = (
            self.network.features
        )  # replaced by its compiled form where numerics.compile is set

    @property
    def head(self) -> nn.Module:
        return self.network.head

    def features(self, x: Tensor) -> Tensor:
        """(B,C,H,W) -> (B,d) float32."""
        if len(x) == self.rows:
            return self._call(x)
        return torch.cat([self._padded(part) for part in x.split(self.rows)])

    def _padded(self, part: Tensor) -> Tensor:
        missing = self.rows - len(part)
        if not missing:
            return self._call(part)
        self.ledger.filler += missing
        return self._call(torch.cat([part, part[:1].expand(missing, -1, -1, -1)]))[: len(part)]

    def _call(self, x: Tensor) -> Tensor:
        return self.run(x.to(self.dtype)).float()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Defended(Protocol):
    """A defence around a model, as a victim and its attackers use it (defenses/base.py)."""

    model: Any
    traits: Traits
    group: Group | None
    companion_rows: int
    price: int

    def __call__(self, x: Tensor, draw: Draw) -> Tensor: ...

    def approximate(self, x: Tensor, draw: Draw, kind: str) -> Tensor: ...

    def check_kind(self, kind: str) -> None: ...

    def added_parameters(self) -> int: ...

    def reset(self) -> None: ...


class Victim:
    """Answers queries, meters every answer, keys the defence's noise, and groups rows as the traits demand.

    Raises BenchError for a query outside [0, 1] and for logits that are not finite, naming the samples.
    """

    def __init__(self, defense: Defended, model: FixedRows, seed: int) -> None:
        self.defense, self.rows, self.ledger, self.seed = defense, model.rows, model.ledger, seed
        self.ledger.companions += defense.companion_rows
        self.price = defense.price

    @torch.no_grad()
    def answer(self, x: Tensor, draw: Draw, live: Tensor) -> Tensor:
        """x (B,C,H,W) in [0, 1] -> logits (B,K). Rows that are not `live` (B,) are answered, but not metered as queries:
        in a group they are stand-ins, elsewhere filler.
        """
        self.ledger.add(COUNTED[draw.stream], draw.sample, live * self.price)
        if self.defense.traits.coupled:
            self.ledger.add("stand_in", draw.sample, ~live)
            logits = self.defense(x, draw)
        else:
            self.ledger.filler += (len(live) - int(live.sum())) * self.price
            parts = [self._block(x, draw, start) for start in range(0, len(x), self.rows)]
            logits = torch.cat(parts) if len(parts) > 1 else parts[0]
        self._check(x, logits, draw, live)
        return logits

    def _block(self, x: Tensor, draw: Draw, start: int) -> Tensor:
        """One call of exactly `rows` rows: what follows the features (UniG's small matrix products) depends on shape too."""
        part, noise = x[start : start + self.rows], draw.rows(slice(start, start + self.rows))
        missing = self.rows - len(part)
        if not missing:
            return self.defense(part, noise)
        self.ledger.filler += missing * self.price
        index = torch.cat([torch.arange(len(part)), torch.zeros(missing, dtype=torch.int64)]).to(x.device)
        return self.defense(part[index], noise.rows(index))[: len(part)]

    def passes(self, sample: Tensor) -> Tensor:
        """(B,) how often a white-box attacker has sent each sample through."""
        return self.ledger.count["white_box"][sample]

    def slope(
        self, x: Tensor, draw: Draw, y: Tensor, target: Tensor, loss: Loss, live: Tensor, forward: Forward
    ) -> Answer:
        """The loss, its gradient at x and the logits of the `live` rows (zeros elsewhere), for an attacker who has the network.

        forward: the defence, or the same with another backward pass. In a group the loss is the sum over its live rows.
        """
        self.ledger.add("white_box", draw.sample, live)
        self.ledger.add("backward", draw.sample, live)
        grad, value, logits = torch.zeros_like(x), torch.zeros(len(x), device=x.device), None
        for index, real in self._calls(live, draw):
            leaf, noise = x[index].detach().requires_grad_(), draw.rows(index)
            with torch.enable_grad():
                told = forward(leaf, noise)
                each = loss(told, y[index], target[index])
                (slope,) = torch.autograd.grad(each[real].sum(), leaf)
            own = index[real]
            logits = torch.zeros(len(x), told.shape[1], device=x.device) if logits is None else logits
            grad[own], value[own], logits[own] = slope[real], each[real].detach(), told[real].detach()
        logits = torch.zeros(len(x), 1, device=x.device) if logits is None else logits
        self._check(x, logits, draw, live)
        return Answer(value, grad, logits)

    @torch.no_grad()
    def look(self, x: Tensor, draw: Draw, live: Tensor) -> Tensor:
        """Logits (B,K) of the live rows, zeros elsewhere; a white-box attacker's forward pass."""
        self.ledger.add("white_box", draw.sample, live)
        logits = None
        for index, real in self._calls(live, draw):
            told = self.defense(x[index], draw.rows(index))
            logits = torch.zeros(len(x), told.shape[1], device=x.device) if logits is None else logits
            logits[index[real]] = told[real]
        logits = torch.zeros(len(x), 1, device=x.device) if logits is None else logits
        self._check(x, logits, draw, live)
        return logits

    def through(self, x: Tensor, draw: Draw, forward: Forward) -> Tensor:
        """(B,K) logits for an engine that differentiates by itself. Every row is counted."""
        live = torch.ones(len(x), dtype=torch.bool, device=x.device)
        self.ledger.add("white_box", draw.sample, live)
        return torch.cat([forward(x[index], draw.rows(index))[real] for index, real in self._calls(live, draw)])

    def _calls(self, live: Tensor, draw: Draw) -> Iterator[tuple[Tensor, Tensor]]:
        """(rows of one network call, which of them are real): exactly `rows` rows a call, filled with copies of the first; a
        coupled defence gets its whole group."""
        if self.defense.traits.coupled:
            self.ledger.add("stand_in", draw.sample, ~live)
            yield torch.arange(len(live), device=live.device), live
            return
        index = live.nonzero()[:, 0]
        for part in index.split(self.rows) if len(index) else ():  # torch splits nothing into one empty part
            missing = self.rows - len(part)
            self.ledger.filler += missing
            real = torch.arange(self.rows, device=live.device) < len(part)
            yield torch.cat([part, part[:1].expand(missing)]), real

    def _check(self, x: Tensor, logits: Tensor, draw: Draw, live: Tensor) -> None:
        low, high = x.aminmax()
        trouble = torch.stack([low < 0, high > 1, ~torch.isfinite(logits).all()])
        if not trouble.any():
            return
        outside = ((x.flatten(1).amin(1) < 0) | (x.flatten(1).amax(1) > 1)) & live
        if outside.any():
            raise BenchError(
                f"images outside [0, 1]: samples {_name(draw.sample[outside])} reach {float(low):.4g}..{float(high):.4g}; "
                "scale pixels to [0, 1] (normalisation is a layer of the model)"
            )
        bad = ~torch.isfinite(logits).all(1)
        if bad.any():
            raise BenchError(
                f"the model answered NaN or inf logits for samples {_name(draw.sample[bad])}; the cell stopped, finished "
                "samples are kept; check its weights and numerics.dtype"
            )


def _name(sample: Tensor) -> str:
    numbers = sample.unique().tolist()
    return ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")


def check_rows(victim: Victim, x: Tensor, sample: Tensor) -> None:
    """Refuses a model whose rows depend on each other without its traits saying so: permutes one block (unmetered: filler)."""
    if victim.defense.traits.coupled:
        return
    block, number = x[: victim.rows], sample[: victim.rows]
    index = torch.arange(len(block) - 1, -1, -1, device=x.device)
    none = torch.zeros(len(block), dtype=torch.bool, device=x.device)
    draw = Draw(victim.seed, number, torch.zeros_like(number), Stream.CLEAN)
    straight = victim.answer(block, draw, none)
    turned = victim.answer(block[index], draw.rows(index), none)[index]
    if not torch.equal(straight, turned):
        gap = float((straight - turned).abs().max())
        raise BenchError(
            f"{type(victim.defense).__name__}: a row's logits change by up to {gap:.2g} with its place in the batch; "
            "declare Traits(coupled=True) and a group, or choose other numerics (numerics.compile=false, another dtype)"
        )
