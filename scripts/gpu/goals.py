"""The goals for a GPU, each with what the stages of `scripts/gpu_check.py` measured, or with why nothing was."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

Found = Mapping[str, Mapping[str, Any]]  # stage -> what it wrote
Row = Mapping[str, Any]


class Goal(NamedTuple):
    what: str
    goal: str
    measured: str  # or, in brackets, why not
    met: str  # yes | no | not measured; at toy scale a dash


LEAST = {"simba": 0.90, "signhunter": 0.90, "nes": 0.90, "bandits": 0.90, "rays": 0.85}  # labels are let off with less
RATE = "queries/s over the best plain forward rate"
LATE = "no time was left"


def of(found: Found, outcomes: Mapping[str, str] | None = None, quick: bool = False) -> list[Goal]:
    """All of them, whatever of the stages has run. outcomes: how each ended that has."""
    why = _Why(found, outcomes or {}, quick)
    throughput, training, planned = (found.get(stage, {}) for stage in ("throughput", "training", "planned"))
    rows, cells = throughput.get("rates", []), found.get("cells", {}).get("cells", [])
    groups, busy = [row for row in cells if row.get("round") == "groups"], throughput.get("busy", [])
    plans = {row["what"]: row for row in planned.get("plans", [])}
    name = f"{planned.get('experiment', 'unig_cifar_paper')}, planned from measured rates: hours of"
    pgd20 = throughput.get("pgd20", {})

    def hours(of_what: str, which: str) -> tuple[float | None, str]:
        row = plans.get(which, {})
        return row.get(of_what), why("planned", [row], "no rate was measured" if row else "")

    goals = [
        _tests(found, why),
        *(_ratio(f"Square, {each}: {RATE}", 0.95, rows, "square", each, why) for each in ("none", "rnd", "unig")),
        *(_ratio(f"{each}: {RATE}", least, rows, each, None, why) for each, least in LEAST.items()),
        _against(found, "robust", 1 / 3, why),
        _against(found, "plain", 1 / 2, why),
        _at_most("filler in groups of 32, 128, 256, 512", 0.05, _most(groups, "filler"), why("cells", groups)),
        _at_most(f"{name} attacks, without DENT", 2.0, *hours("hours of attacks", "without DENT")),
        _at_most(f"{name} attacks, DENT", None, *hours("hours of attacks", "DENT")),
        _at_most(f"{name} training, without DENT", None, *hours("hours of training", "without DENT")),
        _at_least("PreActResNet-18: test accuracy", 0.93, training.get("test_accuracy"), why("training", [training])),
        _at_most("PreActResNet-18: seconds of training", 180, training.get("seconds"), why("training", [training])),
        _at_most("PGD-20 over its bare passes", 1.05, pgd20.get("over bare passes"), why("throughput", [pgd20])),
        _at_least("ticks for each look of the host", 8, _least(busy, "ticks a look"), why("throughput", busy)),
        _at_least("device busy while the queue is not empty", 0.95, _most(busy, "busy"), why("throughput", busy)),
        *_numerics(cells),
    ]
    return [goal._replace(met="-") if quick and goal.met in ("yes", "no") else goal for goal in goals]


class _Why:
    """Why there is no number."""

    def __init__(self, found: Found, outcomes: Mapping[str, str], quick: bool) -> None:
        self.found, self.outcomes, self.quick = found, outcomes, quick

    def __call__(self, stage: str, rows: Iterable[Row], else_: str = "") -> str:
        """rows: of the stage, those that were to give it."""
        errors = [row["error"] for row in rows if row.get("error")]
        outcome = self.outcomes.get(stage)
        if errors:
            return errors[0]
        if outcome is None:
            return f"stage {stage} has not run"
        if outcome != "done":
            return f"stage {stage}: {outcome}"
        return else_ or ("not part of the toy run" if self.quick else LATE)


def _most(rows: Iterable[Row], name: str) -> float | None:
    return max((row[name] for row in rows if row.get(name) is not None), default=None)


def _least(rows: Iterable[Row], name: str) -> float | None:
    return min((row[name] for row in rows if row.get(name) is not None), default=None)


def _tests(found: Found, why: _Why) -> Goal:
    tests = found.get("device_tests", {})
    if "passed" not in tests:
        return _compared("tests on the device", "all pass", None, bool, why("device_tests", []))
    said = f"{tests['passed']} passed, {len(tests['failed'])} failed{'' if tests['finished'] else ', not finished'}"
    return Goal("tests on the device", "all pass", said, "yes" if tests["finished"] and not tests["failed"] else "no")


def _ratio(what: str, least: float, rows: list[Row], attack: str, defence: str | None, why: _Why) -> Goal:
    """Of the defences that were measured the worst, of the ways to run one the best; each against its own plain rate."""
    asked = [row for row in rows if row["attack"] == attack and defence in (None, row["defence"])]
    best: dict[str, float] = {}
    for row in asked:
        if row.get("over best plain") is not None:
            best[row["defence"]] = max(best.get(row["defence"], 0.0), row["over best plain"])
    goal = _at_least(what, least, min(best.values(), default=None), why("throughput", asked))
    return goal._replace(measured=f"{goal.measured} ({', '.join(best)})") if best and defence is None else goal


def _against(found: Found, network: str, most: float, why: _Why) -> Goal:
    square = found.get("square", {})
    asked = [row for row in square.get("walls", []) if row.get("network") == network]
    rows = [row for row in asked if row.get("seconds")]
    theirs = [row["seconds"] for row in rows if row["who"] == "pyautoattack"]
    ours = {row["who"]: row["seconds"] for row in rows if row["who"] != "pyautoattack"}
    scale = f"{square.get('images', 1000):,} images x {square.get('queries', 2500):,} queries"
    what = f"Square, {scale}, {network} network: wall time over pyautoattack's"
    if not (theirs and ours):
        lacking = [row for row in asked if (row["who"] == "pyautoattack") == (not theirs)]
        return _at_most(what, most, None, why("square", lacking))
    fastest = min(ours, key=lambda who: ours[who])
    goal = _at_most(what, most, ours[fastest] / theirs[0], "")
    return goal._replace(measured=f"{goal.measured} ({ours[fastest]:.1f} s with {fastest}, theirs {theirs[0]:.1f} s)")


def _numerics(cells: list[Mapping[str, Any]]) -> list[Goal]:
    """What other arithmetic does to the accuracies: no goal, but to be said."""
    rows = [row for row in cells if row.get("round") == "numerics" and "robust_accuracy" in row]
    strict = next((row for row in rows if row["numerics"] == "gpu"), None)
    others = [row for row in rows if strict is not None and row is not strict]
    goals = []
    for row in others:
        changes = [row[name] - (strict or row)[name] for name in ("clean_accuracy", "robust_accuracy")]
        said = ", ".join(f"{change:+.4f}" for change in changes)
        goals.append(Goal(f"{row['numerics']} against gpu: change of clean and robust accuracy", "said", said, ""))
    return goals


def _at_least(what: str, least: float, value: float | None, why: str) -> Goal:
    return _compared(what, f">= {least:.3g}", value, lambda v: v >= least, why)


def _at_most(what: str, most: float | None, value: float | None, why: str) -> Goal:
    return _compared(
        what, "said" if most is None else f"<= {most:.3g}", value, lambda v: most is None or v <= most, why
    )


def _compared(what: str, goal: str, value: float | None, holds: Callable[[float], bool], why: str) -> Goal:
    if value is None:
        return Goal(what, goal, f"({why})", "not measured")
    return Goal(what, goal, f"{value:.4g}", "yes" if holds(value) else "no")
