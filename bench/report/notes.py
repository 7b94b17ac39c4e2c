"""The lines below a table: what its numbers count, what may explain a difference, what is missing. Imports no torch."""

from collections.abc import Sequence

from bench.report.metrics import METRICS
from bench.report.table import Entry, Table


def notes(table: Table) -> list[str]:
    """In the order in which they are printed."""
    entries = list(table.entries.values())
    found = [
        f"{_images(entries)}; percent; [95% interval: Wilson for shares, normal for means].",
        "Robust accuracy: correctly classified and not fooled at any query within the budget, out of all images (first hit).",
        "Queries: successes only.",
    ]
    if any(entry.printed is not None for entry in entries):
        found.append("paper: the printed number, (our difference), * = it lies outside our interval.")
    shown = {entry.metric: entry.kind for entry in entries}
    found += dict.fromkeys(shown[name].note for name in METRICS if name in shown and shown[name].note)
    for ambiguity in dict.fromkeys(entry.ambiguity for entry in entries if entry.outside and entry.ambiguity):
        places = [f"{e.row} / {e.column}" for e in entries if e.outside and e.ambiguity == ambiguity]
        found.append(f"* may be due to: {ambiguity} ({', '.join(places)})")
    missing = dict.fromkeys(entry.command for entry in entries if entry.ours is None)
    return found + table.notes + [f"– is missing; to fill it: {command}" for command in missing]


def _images(entries: Sequence[Entry]) -> str:
    n = max((entry.ours.n for entry in entries if entry.ours and entry.kind.counts == "images"), default=0)
    right = sorted({entry.ours.n for entry in entries if entry.ours and entry.kind.counts == "right"})
    if right and not n:
        return f"n = {' to '.join(map(str, dict.fromkeys((right[0], right[-1]))))} images, those correctly classified"
    return f"n = {n} images" + (", or as given beside a number" if any(entry.apart for entry in entries) else "")
