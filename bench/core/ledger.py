"""Network rows by purpose. Every row that enters the network is counted here, by what it was for."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

PER_SAMPLE = ("attack", "clean", "re_evaluation", "placeholder", "white_box", "backward")


@dataclass
class Ledger:
    """Per sample where the rows belong to one. The sum of all but `backward` is what a forward hook sees.

    What depends on a mask is counted on the device, so that counting never waits for it.
    """

    samples: int  # highest sample number + 1
    device: torch.device
    filler: int = 0  # rows that only fill a call up to its fixed size; they belong to nobody
    companions: int = 0  # placeholders that belong to nobody: a defence's own training images
    inner: int = 0  # rows that a defence sends through the network beside the one that it answers with (DENT's steps)
    count: dict[str, Tensor] = field(default_factory=dict)  # (samples,) int64 each
    idle: Tensor = field(init=False)  # () int64: rows of slots whose sample has finished; filler, too
    discarded: Tensor = field(init=False)  # () int64: queries ahead that the attack did not make

    def __post_init__(self) -> None:
        for name in PER_SAMPLE:
            self.count[name] = torch.zeros(self.samples, dtype=torch.int64, device=self.device)
        self.idle, self.discarded = (torch.zeros((), dtype=torch.int64, device=self.device) for _ in range(2))

    def add(self, name: str, sample: Tensor, rows: Tensor) -> None:
        """sample (B,) numbers, rows (B,) how many of each."""
        self.count[name].index_add_(0, sample, rows.long())

    def forget_all_but(self, done: set[int]) -> None:
        """Unfinished samples start anew (out of memory): their queries stay counted, but belong to no record."""
        lost = torch.ones(self.samples, dtype=torch.bool, device=self.device)
        lost[torch.tensor(sorted(done), dtype=torch.int64, device=self.device)] = False
        self.filler += int(self.count["attack"][lost].sum())
        self.count["attack"][lost] = 0

    def totals(self) -> dict[str, int]:
        """Forward rows by purpose; backward passes are counted per sample alone."""
        sums = {name: int(rows.sum()) for name, rows in self.count.items() if name != "backward"}
        sums["placeholder"] += self.companions
        return sums | {
            "filler": self.filler + int(self.idle), "inner": self.inner, "discarded": int(self.discarded),
        }  # fmt: skip
