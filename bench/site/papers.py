"""Which paper an experiment mirrors: by the printed numbers that its tables name, else by its name. Imports no torch."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from bench.report.paper_numbers import FOLDER
from bench.report.table_specs import AnyTable, TableSpec

NAMES = {
    "unig": "UniG",
    "gcm": "GCM",
    "fgr": "FGR",
    "disjoint": "Adversarially-disjoint models",
    "advtrans": "Adversarial transformation",
}
OTHERS = {"transformation": "advtrans"}  # how experiments call it


@dataclass(frozen=True)
class Paper:
    key: str  # how its CSVs in results/papers begin
    name: str
    title: str


@cache
def papers() -> dict[str, Paper]:
    """Of every paper whose numbers are there."""
    found: dict[str, Paper] = {}
    for path in sorted(FOLDER.glob("*.csv")):
        key = path.stem.partition("_")[0]
        with path.open(newline="", encoding="utf-8") as file:
            row = next(csv.DictReader(file), {})
        found.setdefault(key, Paper(key, NAMES.get(key, key), row.get("paper", key)))
    return found


def of(experiment: str, tables: Iterable[AnyTable]) -> str | None:
    """The paper's key; None for an experiment of one's own."""
    printed = [each.printed for each in tables if isinstance(each, TableSpec) and each.printed]
    key = printed[0].partition("_")[0] if printed else experiment.partition("_")[0]
    key = OTHERS.get(key, key)
    return key if key in papers() else None
