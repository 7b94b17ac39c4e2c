"""A table of a grid with several seeds: every number is a mean over the seeds ± their standard deviation.

A seed trains, attacks and draws anew, so this is how much of a number is luck. Seeds that a table's own `where` names are rows or
columns of it, and stay apart. Imports no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.config.grid import GridCell
from bench.report.metrics import COSTS, Value
from bench.report.table import Entry, Table, build

TOLD = {"flags", "mcnemar", *COSTS}  # nothing to average: what the seeds say is shown, once where they agree


def build_over(name: str, spec: Mapping[str, Any], cells: Sequence[GridCell], narrowed: bool = False) -> Table:
    """`build`, or the mean of one table a seed. An entry is missing where any seed's is."""
    seeds = sorted({cell.config["seed"] for cell in cells})
    if len(seeds) < 2 or _asks_for_seeds(spec):
        return build(name, spec, cells, narrowed)
    each = [build(name, spec, [cell for cell in cells if cell.config["seed"] == s], narrowed) for s in seeds]
    entries = {place: _over([table.entries[place] for table in each]) for place in each[0].entries}
    notes = [
        f"± is the standard deviation over the seeds {', '.join(map(str, seeds))}: each trains, attacks and draws anew."
    ]
    return replace(each[0], entries=entries, notes=[*each[0].notes, *notes])


def _asks_for_seeds(spec: Mapping[str, Any]) -> bool:
    places = [spec, *(spec.get("rows") or []), *(spec.get("columns") or [])]  # a matrix spells out its own
    return any("seed" in (place.get("where") or {}) for place in places)


def _over(entries: list[Entry]) -> Entry:
    found = [entry.ours for entry in entries if entry.ours is not None]
    if len(found) < len(entries):
        return next(entry for entry in entries if entry.ours is None)
    numbers = np.array([value.value for value in found])
    known = numbers[~np.isnan(numbers)]  # of no success there is no mean of queries
    if entries[0].metric in TOLD:
        shown = " / ".join(dict.fromkeys(value.shown or f"{value.value:.3g}" for value in found))
    else:
        digits = 2 if entries[0].metric == "logit_diff" else 1
        deviation = f" ± {known.std(ddof=1):.{digits}f}" if len(known) > 1 else ""
        few = f" ({len(known)} of {len(found)} seeds)" if len(known) < len(found) else ""
        shown = f"{known.mean():.{digits}f}{deviation}{few}" if len(known) else ""
    mean = float(known.mean()) if len(known) else float("nan")
    return replace(entries[0], ours=Value(mean, min(value.n for value in found), float("nan"), float("nan"), shown))
