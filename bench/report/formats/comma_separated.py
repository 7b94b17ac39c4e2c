"""A table as CSV: one line an entry, at full precision. Imports no torch."""

import csv
import io

from bench.report.table import Table

FIELDS = ["row", "column", "metric", "unit", "value", "low", "high", "n", "paper", "difference", "outside", "key"]


def comma_separated(table: Table) -> str:
    """A missing cell's numbers are empty."""
    whole = io.StringIO()
    out = csv.writer(whole, lineterminator="\n")
    out.writerow(FIELDS)
    for entry in table.entries.values():
        ours = entry.ours
        numbers = [ours.value, ours.low, ours.high, ours.n] if ours else [""] * 4
        paper = ["" if v is None else v for v in (entry.printed, entry.difference)]
        outside = "" if entry.printed is None or ours is None else entry.outside
        out.writerow([entry.row, entry.column, entry.metric, entry.kind.unit, *numbers, *paper, outside, entry.key])
    return whole.getvalue()
