"""The oracle for defences that adapt themselves to each batch: gradients through what they adapted to."""

from typing import Any

import torch
from torch import Tensor

from attacks.base import Evaluation, Rows
from attacks.oracles.gradients import Exact, known, mean
from bench.core.errors import BenchError
from bench.core.victim import Victim


class Adapted(Exact):
    """Through the networks that a defence adapted to the attacker's batches so far (DENT): their mean loss, or per image the one
    that stands best (GMSA, Chen et al. 2022, algorithm 2). Raises BenchError for a defence that adapts nothing."""

    def __init__(self, victim: Victim, mode: str) -> None:
        if not hasattr(victim.defense, "fit"):
            raise BenchError(f"{type(victim.defense).__name__} adapts nothing; attack=gmsa is for defense=dent")
        if mode not in ("mean", "worst"):
            raise BenchError(f"attack.oracle.mode={mode}: it is mean or worst")
        self.victim, self.mode, self.kept = victim, mode, list[Any]()
        self._forward = victim.defense

    def adapt(self, x: Tensor, anew: bool) -> None:
        """Keeps what the defence makes of this batch; `anew` forgets the earlier ones."""
        self.kept = [] if anew else self.kept
        defense: Any = self.victim.defense
        self.kept.append(defense.fit(x))

    def __call__(self, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        if not self.kept:
            raise BenchError("attack/oracle=adapted is asked by attack=gmsa alone, which has the defence adapt first")
        answers = [self._through(fitted, x, rows, loss, live) for fitted in self.kept]
        if self.mode == "mean":
            return mean(iter(answers), len(answers))
        worst = torch.stack([answer.loss for answer in answers]).argmax(0)
        row = torch.arange(len(x), device=x.device)
        return Evaluation(*(torch.stack(column)[worst, row] for column in zip(*answers, strict=True)))

    def forward(self, x: Tensor, rows: Rows) -> Tensor:
        raise BenchError("attack/oracle=adapted is asked by attack=gmsa alone, not by an engine such as AutoAttack")

    def _through(self, fitted: Any, x: Tensor, rows: Rows, loss: str, live: Tensor) -> Evaluation:
        defense: Any = self.victim.defense
        return self.victim.gradient(
            x, self._draw(rows), rows.y, rows.target, known(loss), live, lambda x, draw: defense.answer_with(fitted, x)
        )
