"""Another library's attack as one of ours: any defence, any oracle, our ledger; what it returns is judged by a fresh answer.

It gets whole chunks of the cell's order, as its results may depend on the batch (samples.n is a multiple of chunk), the true
labels, and the threat's radius where it takes one; `options` are its own keyword arguments.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor

from attacks import norms
from attacks.base import Found, MakeOracle, Oracle, Rows
from attacks.foreign.network import BudgetSpent, Metered
from bench.core.errors import BenchError, one_line
from bench.core.threat import Threat

Play = Callable[[Metered, Tensor, Tensor, str, Mapping[str, Any]], Tensor]


@dataclass(frozen=True)
class Foreign:
    """name: the library's own. passes: forward rows an image at most (null: any number); it ends there with what it has
    found. Raises BenchError for a library that isn't installed, a name that it lacks, or keyword arguments that it refuses."""

    threat: Threat
    engine: Literal["foolbox", "torchattacks", "art", "advlib"]
    name: str
    chunk: int
    passes: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    oracle: MakeOracle | None = None
    version: int = 1

    def __post_init__(self) -> None:
        norms.check(self.name, self.threat.norm, ("linf", "l2", "l1"))
        if self.threat.goal != "untargeted":
            raise BenchError(f"threat.goal={self.threat.goal}: {self.engine}'s attacks run untargeted here")
        if self.chunk < 1 or (self.passes is not None and self.passes < 1):
            raise BenchError(f"attack.chunk={self.chunk} and attack.passes={self.passes} must be at least 1")

    def play(self) -> Play:
        try:
            return import_module(f"attacks.foreign.{self.engine}_engine").play
        except ModuleNotFoundError as error:
            extra = "advlib" if self.engine == "advlib" else "engines"
            plain = ", or pip install --no-deps adv-lib where visdom does not build" if extra == "advlib" else ""
            raise BenchError(
                f"attack={self.engine} needs {error.name}, which isn't installed; pip install 'defence-bench[{extra}]'{plain}"
            ) from None

    def __call__(self, oracle: Oracle, x: Tensor, rows: Rows) -> Found:
        network = Metered(oracle, x, rows, self.threat, self.passes).eval()
        seed = int(rows.key[0]) & 0x7FFFFFFF
        play, devices = self.play(), [x.device] if x.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            torch.default_generator.set_state(torch.Generator().manual_seed(seed).get_state())
            try:
                image = play(network, x.clone(), rows.y.clone(), self.name, self.options)
            except BudgetSpent:
                image = network.best
            except BenchError:
                raise
            except Exception as error:  # whatever someone else's library raises
                raise BenchError(
                    f"{self.engine}'s {self.name} does not run here ({one_line(error)[:160]}); see attack.options"
                ) from None
        image = image.detach().float().to(x.device)
        image = torch.where(torch.isfinite(image), image, x).clamp(0, 1)
        near = norms.project(x, image, self.threat.norm, self.threat.radius)
        rounding = (near - image).flatten(1).abs().amax(
            1
        ) < 1e-5  # a step beyond the ball is the attack's own, and judged so
        return Found(
            torch.where(rounding.view(-1, 1, 1, 1), near, image), torch.zeros_like(rows.y), in_order=network.in_order
        )
