"""Runs the protocol: each step is a cell of the user's store, on the images that still stand; a second run finds the records."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.audit import facts as experiments
from bench.audit import selection
from bench.audit.facts import Facts
from bench.audit.parts import execute
from bench.audit.protocol import Level, Step, Subject
from bench.config import grid, places
from bench.config.grid import GridCell
from bench.config.specs import CellSpec
from bench.core.errors import BenchError
from bench.data.samples import split_of
from bench.models.split import Split
from bench.report.records import Attacked, columns
from bench.store.records import Cell

LARGEST = 64  # pixels a side that the small networks are for


@dataclass(frozen=True)
class Outcome:
    """A step's records, or why there are none (`refused`)."""

    step: Step
    command: str
    attacked: Attacked | None = None
    tried: int = 0  # images that were correctly classified and that it was sent against
    broken: int = 0  # of those; of a random defence: fooled in most re-evaluations
    adds: int = 0  # of those, the ones that no earlier step had broken
    rows: int = 0  # network rows that its records took
    seconds: float = 0.0
    refused: str = ""
    cell: str = ""  # its key: steps on more images of one cell share a ledger


@dataclass(frozen=True)
class Audit:
    """All that the verdict is made of. Arrays are by position in the cell's order."""

    typed: tuple[str, ...]
    level: Level
    cell: GridCell
    facts: Facts
    sample: np.ndarray  # (N,) int64
    clean: np.ndarray  # (N,) bool
    outcomes: tuple[Outcome, ...]

    def fooled(self, re_evaluated: bool) -> np.ndarray:
        """(N,) bool: broken by some step within the threat."""
        found = np.zeros(len(self.sample), dtype=bool)
        for outcome in self.outcomes:
            if outcome.attacked is not None and outcome.step.counts:
                found |= broken(outcome.attacked, len(found), re_evaluated)
        return found


def audit(typed: Sequence[str], effort: Level, given: Split | None = None) -> Audit:
    """typed: overrides of a cell without its attack. given: the network, where it is somebody's object. Raises BenchError for a
    defence whose traits are declared falsely, or that can't be run at all; what one step refuses is an outcome."""
    typed, base = begin(typed, effort)
    found = experiments.find(base.spec, base.runtime, given)
    execute(base, range(found.samples), "clean", given)
    frame = Cell(base.runtime.store, base.clean_key).frame(["sample", "position", "clean"])
    frame = frame[frame["position"] < found.samples]
    clean = frame["clean"].to_numpy(dtype=bool)  # pyright: ignore[reportAttributeAccessIssue]
    standing, outcomes = clean.copy(), list[Outcome]()
    todo = selection.steps(subject(base, found, given is not None), effort)
    before: dict[str, np.ndarray] = {}  # contest -> the images that stood before it
    counted: dict[str, int] = {}  # cell -> the rows of its ledger that an earlier step has
    for nth, step in enumerate(todo, start=1):
        if not is_due(step, outcomes):
            continue
        among = standing
        if step.contest and not step.winner:
            among = before.setdefault(step.contest, standing.copy())
        outcome = _play(step, typed, among, standing, clean, f"[{nth}/{len(todo)}] {step.name}", given)
        in_all = outcome.rows
        outcome = replace(outcome, rows=in_all - counted.get(outcome.cell, 0))
        counted[outcome.cell] = in_all
        if step.counts and outcome.attacked is not None:
            standing &= ~broken(outcome.attacked, len(standing), found.traits["stochastic"])
        outcomes.append(outcome)
    typed = tuple(word for word in typed if not word.startswith("shard="))  # together they make one page
    return Audit(typed, effort, base, found, frame["sample"].to_numpy(), clean, tuple(outcomes))  # pyright: ignore[reportAttributeAccessIssue]


def begin(typed: Sequence[str], effort: Level) -> tuple[tuple[str, ...], GridCell]:
    """-> the words with the level's images, and the cell without an attack. Raises BenchError for words that are no audit's."""
    _check(typed)
    typed = tuple(typed) if any(word.startswith("samples") for word in typed) else (*typed, _samples(effort))
    return typed, cell_of(typed, ("attack=none",))


def is_due(step: Step, done: Sequence[Outcome]) -> bool:
    """What follows a step that broke nothing is left out, and so is what is for the winner of a contest alone."""
    if step.after and not any(each.adds for each in done if each.step.name == step.after):
        return False
    if not step.winner:
        return True
    most: dict[str, int] = {}
    for each in done:
        if each.step.contest == step.contest and not each.step.winner:
            most[each.step.of] = most.get(each.step.of, 0) + each.broken
    return bool(most) and step.of == max(most, key=lambda name: most[name])  # of equals the first


def broken(attacked: Attacked, n: int, re_evaluated: bool) -> np.ndarray:
    """(n,) bool by position: correctly classified and fooled; re-evaluated: in most of the re-evaluations."""
    robust = attacked.robust_re_evaluated if re_evaluated else attacked.robust
    found = np.zeros(n, dtype=bool)
    inside = attacked.position < n
    found[attacked.position[inside]] = (attacked.clean & ~robust)[inside]
    return found


def _check(typed: Sequence[str]) -> None:
    for word in typed:
        name = word.partition("=")[0].lstrip("+~")
        if name == "attack" or name.startswith(("attack.", "attack/", "attack@")) or name == "experiment":
            raise BenchError(
                f"{word}: the audit chooses the attacks; name the defence, the model, the data set and the threat"
            )
        if "," in word.partition("=")[2] and not word.partition("=")[2].startswith(("[", "{", '"', "'")):
            raise BenchError(f"{word}: one audit at a time, no sweep")


def _samples(effort: Level) -> str:
    return f"samples={'null' if effort.samples is None else effort.samples}"


def cell_of(typed: Sequence[str], words: Sequence[str]) -> GridCell:
    axes = {word.partition("=")[0] for word in words}
    kept = [word for word in typed if word.partition("=")[0] not in axes and not of_another(word, typed, words)]
    cells = grid.cells([*kept, *words])
    if len(cells) != 1:
        raise BenchError(f"the audit is of one defence, but these words name {len(cells)} cells: {' '.join(typed)}")
    return cells[0]


def of_another(word: str, typed: Sequence[str], words: Sequence[str]) -> bool:
    """Is it a setting of the audited defence, where the step names one that isn't its sibling?"""
    own, chosen = (next((w.partition("=")[2] for w in some if w.startswith("defense=")), "") for some in (typed, words))
    return word.lstrip("+~").startswith("defense.") and bool(chosen) and not chosen.startswith(f"{own}_")


def subject(base: GridCell, found: Facts, given: bool) -> Subject:
    chosen = base.choices["defense"]
    siblings = {name.removeprefix(f"{chosen}_") for name in places.choices("defense") if name.startswith(f"{chosen}_")}
    return Subject(
        bare=base.spec.defense.target == "defenses.none.Undefended",
        stochastic=found.traits["stochastic"],
        coupled=found.traits["coupled"],
        differentiable=found.traits["differentiable"],
        adapts=found.adapts,
        refuses=found.refuses,
        true_gradient=found.gradient is not None and found.gradient >= experiments.AGREEMENT,
        kinds=found.kinds,
        eps=base.spec.threat.eps,
        trained=base.spec.model.trained and not given,
        given=given,
        single=base.spec.model.weights != "set",
        other=_other(base.spec),
        starts="train" if _has_training_images(base.spec) else "test",
        logit_difference=found.logit_difference,
        norm=base.spec.threat.norm,
        classes=base.spec.dataset.classes,
        samples=found.samples,
        siblings=frozenset(siblings),
        defense=chosen,
    )


def _has_training_images(spec: CellSpec) -> bool:
    try:
        return len(split_of(spec.dataset, "train").labels) > 0
    except BenchError:
        return False


def _other(spec: CellSpec) -> tuple[str, str] | None:
    """A small network of another architecture than the victim's that is trained in minutes, and its recipe; None for large
    images."""
    channels, side, _ = spec.dataset.shape
    if side > LARGEST:
        return None
    build = spec.model.build
    own = (build[0] if isinstance(build, list) else build).target
    model = "cifar_small" if own.endswith("small_cnn") else "small_cnn"
    return model, "standard_digits" if channels == 1 else "standard_small"


def _play(
    step: Step,
    typed: Sequence[str],
    among: np.ndarray,
    standing: np.ndarray,
    clean: np.ndarray,
    title: str,
    given: Split | None,
) -> Outcome:
    """among: the images that it is sent against, unless it is for all; standing: those that no step has broken yet."""
    chosen = clean if step.everyone else among
    positions = np.flatnonzero(chosen[: step.first])[: step.most].tolist()
    command = " ".join(["python", "-m", "bench", *typed, *step.words])
    if step.skipped:
        return Outcome(step, command, refused=step.skipped)
    if not positions:
        return Outcome(step, command, refused="no image was left to attack")
    began = time.monotonic()
    try:
        one = cell_of(typed, step.words)
        if one.spec.attack.fields().get("chunk"):  # an engine's result depends on its whole chunk: all of it, always
            positions = list(range(len(clean[: step.first])))
        execute(one, positions, title, given)
    except BenchError as error:
        return Outcome(step, command, refused=str(error))
    store = Cell(one.runtime.store, one.key)
    attacked = Attacked.of(columns(store, Attacked))
    attacked = attacked.at(np.isin(attacked.position, positions))
    hit = broken(attacked, len(clean), one_is_random(attacked))
    return Outcome(
        step=step,
        command=one.command,
        attacked=attacked,
        tried=int((attacked.clean).sum()),
        broken=int(hit.sum()),
        adds=int((hit & standing).sum()) if step.counts else 0,
        rows=sum(store.ledger().values()),
        seconds=time.monotonic() - began,
        cell=one.key,
    )


def one_is_random(attacked: Attacked) -> bool:
    """Were found images re-evaluated?"""
    return bool((~np.isnan(attacked.re_evaluation_success)).any())
