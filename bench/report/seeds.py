"""A table of a grid with several seeds: every number is a mean over the seeds ± their standard deviation.

A seed trains, attacks and draws anew, so this is how much of a number is luck. Seeds that a table's own `where` names are rows or
columns of it, and stay apart. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.report.records import Records
from bench.report.select import CellIndex
from bench.report.table import Entry, Table, build
from bench.report.table_specs import AnyTable, MatrixSpec
from bench.report.values import NAN, Value


def build_over(name: str, spec: AnyTable, by_seed: "BySeed", records: Records, narrowed: bool = False) -> Table:
    """`build`, or the mean of one table a seed. An entry is missing where any seed's is."""
    if len(by_seed.seeds) < 2 or _names_seeds(spec):
        return build(name, spec, by_seed.all, records, narrowed)
    each = [build(name, spec, cells, records, narrowed) for cells in by_seed.seeds.values()]
    entries = {place: _over([table.entries[place] for table in each]) for place in each[0].entries}
    note = (
        f"± is the standard deviation over the seeds {', '.join(map(str, by_seed.seeds))}: "
        "each trains, attacks and draws anew."
    )
    return replace(each[0], entries=entries, notes=[*each[0].notes, note])


class BySeed:
    """A grid's cells, and those of each seed apart."""

    def __init__(self, cells: CellIndex) -> None:
        self.all = cells
        seeds = sorted({cell.spec.seed for cell in cells.cells})
        self.seeds = {seed: CellIndex(cells.matching({"seed": seed})) for seed in seeds}


def _names_seeds(spec: AnyTable) -> bool:
    wheres = [spec.where] if isinstance(spec, MatrixSpec) else [each.where for each in (*spec.rows, *spec.columns)]
    return any("seed" in where for where in wheres)


def _over(entries: Sequence[Entry]) -> Entry:
    found = [entry.ours for entry in entries if entry.ours is not None]
    if len(found) < len(entries):
        return next(entry for entry in entries if entry.ours is None)
    numbers = np.array([value.value for value in found])
    known = numbers[~np.isnan(numbers)]  # of no success there is no mean of queries
    if not entries[0].kind.averaged:
        shown = " / ".join(dict.fromkeys(value.shown or f"{value.value:.3g}" for value in found))
    else:
        digits = entries[0].kind.digits
        deviation = f" ± {known.std(ddof=1):.{digits}f}" if len(known) > 1 else ""
        few = f" ({len(known)} of {len(found)} seeds)" if len(known) < len(found) else ""
        shown = f"{known.mean():.{digits}f}{deviation}{few}" if len(known) else ""
    mean = float(known.mean()) if len(known) else NAN
    return replace(entries[0], ours=Value(mean, min(value.n for value in found), NAN, NAN, shown))
