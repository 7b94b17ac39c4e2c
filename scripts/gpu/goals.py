"""The goals for a GPU, each with what the stages of `scripts/gpu_check.py` measured."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Found = Mapping[str, Mapping[str, Any]]  # stage -> what it wrote


class Goal(NamedTuple):
    what: str
    goal: str
    measured: str
    met: str  # yes | no | not measured


LABEL_ONLY = ("rays", "hopskipjump")


def of(found: Found) -> list[Goal]:
    """All of them, whatever of the stages has run."""
    throughput, training, planned = (found.get(stage, {}) for stage in ("throughput", "training", "planned"))
    rows = [row for row in throughput.get("rates", []) if isinstance(row.get("over best plain"), int | float)]
    cells, rate = found.get("cells", {}).get("cells", []), "queries/s over the best plain forward rate"
    others = sorted({row["attack"] for row in rows} - {"square"}) or ["another attack"]
    fillers = [row["filler"] for row in cells if row.get("round") == "groups" and "filler" in row]
    hours = {row["what"]: row.get("hours of attacks") for row in planned.get("plans", [])}
    name = f"{planned.get('experiment', 'unig_cifar_paper')}, hours of attacks planned from measured rates"
    busy = [row for row in throughput.get("busy", []) if row.get("busy")]
    return [
        _tests(found),
        *(_ratio(f"Square, {each}: {rate}", 0.95, rows, "square", each) for each in ("none", "rnd", "unig")),
        *(_ratio(f"{each}: {rate}", 0.85 if each in LABEL_ONLY else 0.90, rows, each, None) for each in others),
        _against(found, "robust", 1 / 3),
        _against(found, "plain", 1 / 2),
        _at_most("filler in groups of 32, 128, 256, 512", 0.05, max(fillers, default=None)),
        _at_most(f"{name}, without DENT", 2.0, hours.get("without DENT")),
        _at_most(f"{name}, DENT", None, hours.get("DENT")),
        _at_least("PreActResNet-18: test accuracy", 0.93, training.get("test_accuracy")),
        _at_most("PreActResNet-18: seconds of training", 180, training.get("seconds")),
        _at_most("PGD-20 over its bare passes", 1.05, throughput.get("pgd20", {}).get("over bare passes")),
        _at_least("ticks for each look of the host", 8, min((row["ticks a look"] for row in busy), default=None)),
        _at_least("device busy while the queue is not empty", 0.95, max((row["busy"] for row in busy), default=None)),
        *_numerics(cells),
    ]


def _tests(found: Found) -> Goal:
    tests = found.get("device_tests", {})
    if "passed" not in tests:
        return Goal("tests on the device", "all pass", "", "not measured")
    said = f"{tests['passed']} passed, {len(tests['failed'])} failed{'' if tests['finished'] else ', not finished'}"
    return Goal("tests on the device", "all pass", said, "yes" if tests["finished"] and not tests["failed"] else "no")


def _ratio(what: str, least: float, rows: list[Mapping[str, Any]], attack: str, defence: str | None) -> Goal:
    """Of the defences that were measured the worst, of the ways to run one the best; each against its own plain rate."""
    best: dict[str, float] = {}
    for row in rows:
        if row["attack"] == attack and defence in (None, row["defence"]):
            best[row["defence"]] = max(best.get(row["defence"], 0.0), row["over best plain"])
    return _at_least(what, least, min(best.values(), default=None))


def _against(found: Found, network: str, most: float) -> Goal:
    walls = found.get("square", {}).get("walls", [])
    rows = [row for row in walls if row.get("network") == network and row.get("seconds")]
    theirs = [row["seconds"] for row in rows if row["who"] == "pyautoattack"]
    ours = {row["who"]: row["seconds"] for row in rows if row["who"] != "pyautoattack"}
    what = f"Square, 1,000 images x 2,500 queries, {network} network: wall time over pyautoattack's"
    if not (theirs and ours):
        return Goal(what, f"<= {most:.3g}", "", "not measured")
    fastest = min(ours, key=lambda who: ours[who])
    goal = _at_most(what, most, ours[fastest] / theirs[0])
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


def _at_least(what: str, least: float, value: float | None) -> Goal:
    return _compared(what, f">= {least:.3g}", value, lambda v: v >= least)


def _at_most(what: str, most: float | None, value: float | None) -> Goal:
    return _compared(what, "said" if most is None else f"<= {most:.3g}", value, lambda v: most is None or v <= most)


def _compared(what: str, goal: str, value: float | None, holds: Callable[[float], bool]) -> Goal:
    if value is None:
        return Goal(what, goal, "", "not measured")
    return Goal(what, goal, f"{value:.4g}", "yes" if holds(value) else "no")
