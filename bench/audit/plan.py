"""What an audit will cost before it runs: its steps as cells, each on as many images as it may get. Downloads nothing."""

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.audit import facts as experiments
from bench.audit import run, selection
from bench.audit.protocol import Level, Step
from bench.config.grid import GridCell
from bench.sweep import plan as sweep
from bench.sweep.plan import Plan

PLACES = ("store=", "artifacts=", "shard=")


@dataclass(frozen=True)
class Planned:
    """due: the steps that run whatever is found, with no image broken early. later: what runs where another step broke
    something. skipped: what this level leaves out."""

    due: int
    later: int
    skipped: int
    cost: Plan  # of those that are due


def plan(typed: Sequence[str], effort: Level, probe: bool = True) -> Planned:
    """typed: as bench.audit.run.audit takes it. The traits are seen on a rehearsal: the defence around a thin network that was
    trained for one epoch on stand-in images. Raises BenchError as the audit would, before any attack."""
    typed, base = run.begin(typed, effort)
    todo = selection.steps(run.subject(base, _seen(typed, base), False), effort)
    first = next((step.of for step in todo if step.contest), "")
    skipped = [step for step in todo if step.skipped]
    later = [step for step in todo if not step.skipped and step.after]
    due = [step for step in todo if not step.skipped and not step.after and (not step.winner or step.of == first)]
    return Planned(len(due), len(later), len(skipped), sweep.plan([_cell(step, typed, base) for step in due], probe))


def _seen(typed: Sequence[str], base: GridCell) -> experiments.Facts:
    """Of the rehearsal, but with as many images as the audit has."""
    with tempfile.TemporaryDirectory() as folder:
        kept = [word for word in typed if not word.startswith(PLACES)]
        toy = run.cell_of((*kept, "rehearse=true", f"store={folder}"), ("attack=none",))
        with (
            contextlib.redirect_stdout(None),
            contextlib.redirect_stderr(None),
        ):  # a stand-in's training is nobody's news
            found = experiments.find(toy.spec, toy.runtime)
    return replace(found, samples=sweep.images(base.spec))


def _cell(step: Step, typed: Sequence[str], base: GridCell) -> GridCell:
    """The step's cell, with the images that it gets at most in place of all."""
    found = run.cell_of(typed, step.words)
    n = min(each for each in (sweep.images(base.spec), step.first, step.most) if each is not None)
    spec = found.spec.replace(samples=found.spec.samples.model_copy(update={"n": n}))
    return replace(found, spec=spec)


def lines(found: Planned) -> list[str]:
    head = f"{found.due} attacks, and {found.later} that run only where another one helped (in no count below)"
    left_out = f"; {found.skipped} that this level leaves out" if found.skipped else ""
    return [head + left_out, *sweep.lines(found.cost)]
