"""What each experiment of the papers' scale will cost: results/published/plans.md.

    python scripts/plans.py rate_32=ROWS rate_224=ROWS [out=results/published/plans.md] [experiments=a,b,...]

Cells, trainings and network passes are counted from the configs (bench/sweep/plan.py). Hours are these at a rate that is given,
not measured: rate_32 and rate_224 are forward rows a second of a network of images of 32 and 224 pixels, a backward pass being
two forward ones. experiments: by default those of results/papers/claims.yaml.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.config import grid
from bench.core.errors import BenchError
from bench.report import claims
from bench.report.formats.write import save
from bench.sweep.plan import BACKWARD, Plan, plan

OPTIONS = ("rate_32", "rate_224", "out", "experiments")
EXTRA = ("disjoint_paper_eps", "cifar_square")  # of the papers' scale, with no printed number
WIDE = 64  # pixels: wider images have the other rate


class Line(NamedTuple):
    experiment: str
    plan: Plan
    rate: float  # forward rows a second

    @property
    def hours(self) -> tuple[float, float]:
        """Of training, of attacks."""
        spent = self.plan.forward + BACKWARD * self.plan.backward
        return self.plan.training * (1 + BACKWARD) / self.rate / 3600, spent / self.rate / 3600


def line(experiment: str, rates: tuple[float, float]) -> Line:
    """rates: of narrow and of wide images."""
    cells = grid.cells([f"+experiment={experiment}", "store=/nowhere", "artifacts=/nowhere"])
    wide = cells[0].spec.dataset.shape[-1] > WIDE
    return Line(experiment, plan(cells, probe=False), rates[wide])


NOTES = """**The hours are an assumption, not a measurement**: {:,.0f} forward rows a second at 32 pixels and {:,.0f} at 224,
numbers that were typed into the command above. No GPU of the kind that they stand for has been timed here; `python -m bench plan`
times yours.

Counts are upper bounds from the configs: every attack runs to its budget on every image. A backward pass counts as two forward
ones. Images crafted once for many victims count once. Not counted: what a defence asks of itself (DENT's steps, the 13 passes of
g through f_b). Trainings are of all networks, those that attackers, defences and recipes take among them. Training rows: epochs x
images x members x (1 + steps of the inner attack), of disjoint sets their pairs, too; each is one forward and one backward pass.
"""
COLUMNS = (
    "experiment", "cells", "trainings", "epochs", "training rows", "forward passes", "backward passes", "hours of training",
    "hours of attacks",
)  # fmt: skip


def page(lines: Sequence[Line], rates: tuple[float, float], command: str) -> str:
    """Markdown."""
    head = ["# Plans", "", f"`{command}`", "", NOTES.format(*rates), f"| {' | '.join(COLUMNS)} |"]
    head.append(f"| --- |{' ---: |' * (len(COLUMNS) - 1)}")
    for each in lines:
        p, (training, attacks) = each.plan, each.hours
        head.append(
            f"| {each.experiment} | {p.cells:,} | {p.trainings} | {p.epochs:,} | {p.training:,} | {p.forward:,} | {p.backward:,} "
            f"| {training:,.1f} | {attacks:,.1f} |"
        )
    return "\n".join(head) + "\n"


def main(typed: Sequence[str]) -> str:
    """What to print. Raises BenchError for words that make no sense."""
    options = dict(each.split("=", 1) for each in typed if "=" in each)
    for word in typed:
        if word.partition("=")[0] not in OPTIONS or "=" not in word:
            raise BenchError(f"{word} is unknown; words are {', '.join(f'{name}=' for name in OPTIONS)}")
    rates = _rate(options, "rate_32"), _rate(options, "rate_224")
    named = options.get("experiments")
    experiments = named.split(",") if named else [*claims.read().experiments, *EXTRA]
    text = page([line(each, rates) for each in experiments], rates, f"python scripts/plans.py {' '.join(typed)}")
    out = Path(options.get("out", "results/published/plans.md"))
    save(out, text.encode())
    return text


def _rate(options: dict[str, str], name: str) -> float:
    try:
        rate = float(options[name])
    except (KeyError, ValueError):
        rate = 0.0
    if not rate > 0:
        raise BenchError(
            f"{name}={options.get(name)}: give the forward rows a second of your device, such as {name}=20000"
        )
    return rate


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except BenchError as error:
        sys.exit(f"error: {error}")
