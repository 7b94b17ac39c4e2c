"""An experiment's tables as the reporter builds them, for a page. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config import grid, places
from bench.report import reporter, specification
from bench.report.notes import notes
from bench.report.records import Records
from bench.report.table import Table

KEPT = ("clean", "worst", "flags")  # a column's name begins so: it stands first, so that what remains is in view


@dataclass(frozen=True)
class Shown:
    """A table, its columns in the page's order, and the lines below it."""

    table: Table
    columns: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """figures: name -> the SVG file. damaged: a line a cell that couldn't be read."""

    name: str
    store: Path
    tables: tuple[Shown, ...]
    figures: dict[str, Path]
    damaged: tuple[str, ...]


def reported(store: Path) -> list[str]:
    """The experiments that the store has tables of: a report wrote them."""
    written = [path.name for path in (store / "tables").glob("*.csv")]
    return [name for name in sorted(places.choices("experiment")) if any(w.startswith(f"{name}-") for w in written)]


def read(store: Path, name: str) -> Experiment:
    """Raises BenchError for an unknown experiment."""
    typed = [f"+experiment={name}", f"store={store}"]
    spec, cells, records = specification.read(typed), grid.cells(typed), Records()
    built = [table for _, table in reporter.built_tables(cells, spec, records)]
    found = [Shown(each, tuple(ordered(each.columns)), tuple(notes(each))) for each in built]
    drawn = {each: store / "figures" / f"{name}-{each}.svg" for each in spec.figures}
    figures = {each: path for each, path in drawn.items() if path.exists()}
    return Experiment(name, store, tuple(found), figures, tuple(records.damaged.values()))


def ordered(columns: Sequence[str]) -> list[str]:
    """Clean, worst and flags first; else as the paper has them."""

    def rank(column: str) -> int:
        return next((i for i, word in enumerate(KEPT) if column.lower().startswith(word)), len(KEPT))

    return sorted(columns, key=rank)
