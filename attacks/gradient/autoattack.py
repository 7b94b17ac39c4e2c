"""AutoAttack (Croce and Hein 2020) by RobustBench's own engine, pyautoattack: its forward passes go through the oracle.

The engine knows no sample numbers, so it gets whole chunks of the cell's order, and its results depend on the chunk (a part of
the cell's key): samples.n is a multiple of it. The ledger is exact in sum. Its `rand` version keeps a point after one lucky draw:
every found image is judged anew by the cell, and re-evaluated.
"""

import contextlib
import io
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from attacks import norms
from attacks.base import Found, MakeOracle, Oracle, Rows
from bench.core.errors import BenchError
from bench.core.threat import Threat

NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}


class Network(nn.Module):
    """The oracle as the engine wants it. Row i borrows the number of the chunk's sample i, for a random defence's noise."""

    def __init__(self, oracle: Oracle, rows: Rows, classes: int) -> None:
        super().__init__()
        self.oracle, self.rows, self.classes = oracle, rows, classes
        self.width = classes  # logits of a row, once one was seen

    def forward(self, x: Tensor) -> Tensor:
        if not len(x):  # Square goes on with the margins above 0: none, where all that is left are ties
            return x.new_zeros(0, self.width)
        place = torch.arange(len(x), device=x.device) % len(self.rows.y)
        # clamp's own derivative is 0 at 0 and 1, where most pixels of MNIST lie
        legal = x + (x.clamp(0, 1) - x).detach()
        logits = self.oracle.forward(legal, Rows(*(column[place] for column in self.rows)))
        if not torch.isfinite(logits).all():
            raise BenchError("the victim answered NaN or inf logits to AutoAttack; finished samples are kept")
        self.width = logits.shape[1]
        if self.width < self.classes:
            raise BenchError(
                f"AutoAttack's targeted parts aim at {self.classes - 1} other classes, the victim has {self.width} in all; "
                "set attack.engine=custom attack.attacks=[apgd-ce,fab,square]"
            )
        return logits


@dataclass(frozen=True)
class AutoAttack:
    """chunk: images that the engine gets at once. attacks: null = the engine's own list."""

    threat: Threat
    engine: Literal["standard", "rand", "plus", "custom"]
    attacks: list[str] | None
    chunk: int
    oracle: MakeOracle | None = None
    version: int = 1

    def __post_init__(self) -> None:
        norms.check("AutoAttack", self.threat.norm, tuple(NAMES))
        if self.engine not in ("standard", "rand", "plus", "custom"):
            raise BenchError(f"attack.engine={self.engine}: it is standard, rand, plus or custom")
        if (self.attacks is None) == (self.engine == "custom"):
            raise BenchError(
                "attack.attacks names attacks for attack.engine=custom, and is null for the other versions"
            )
        if self.chunk < 1:
            raise BenchError(f"attack.chunk={self.chunk} must be at least 1")
        if self.threat.goal != "untargeted":
            raise BenchError(
                f"threat.goal={self.threat.goal}: AutoAttack is untargeted (its parts choose their targets)"
            )

    def check_classes(self, classes: int) -> None:
        """Raises BenchError for parts whose loss, or whose nine targets, so few classes don't have."""
        standard = {
            "standard": ["apgd-ce", "apgd-t", "fab-t", "square"],
            "plus": ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"],
            "rand": ["apgd-ce", "apgd-dlr"],
        }
        least = {"apgd-dlr": 3, "apgd-t": 10, "fab-t": 10}
        parts = self.attacks or standard.get(self.engine, [])
        if few := [part for part in parts if classes < least.get(part, 2)]:
            kept = [part for part in parts if part not in few] or ["apgd-ce"]
            raise BenchError(
                f"AutoAttack's {', '.join(few)} need {max(least[part] for part in few)} classes, the data set has {classes}; set "
                f"attack.engine=custom attack.attacks=[{','.join(dict.fromkeys([*kept, 'fab', 'square']))}]"
            )

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        from pyautoattack import AutoAttack as Engine

        seed = int(rows.key[0]) & 0x7FFFFFFF
        devices = [x.device] if x.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), contextlib.redirect_stdout(io.StringIO()):
            engine = Engine(
                Network(oracle, rows, 10 if self._targeted() else 2),
                norm=NAMES[self.threat.norm],  # pyright: ignore[reportArgumentType]
                eps=self.threat.radius,
                seed=seed,
                version=self.engine,
                attacks=self.attacks,  # pyright: ignore[reportArgumentType]
                device=x.device,
            )
            image = engine.run_standard_evaluation(x, rows.y, batch_size=len(x))
        image = image[0] if isinstance(image, tuple) else image
        return Found(norms.project(x, image, self.threat.norm, self.threat.radius), torch.zeros_like(rows.y))

    def _targeted(self) -> bool:
        """Has it parts that aim at each of nine classes?"""
        aimed = {"apgd-t", "fab-t"}
        return self.engine != "rand" if self.attacks is None else not aimed.isdisjoint(self.attacks)
