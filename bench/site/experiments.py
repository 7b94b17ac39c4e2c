"""An experiment's tables as the reporter builds them, for a page. Imports no torch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config import grid, places
from bench.report import reporter, specification
from bench.report.metrics import METRICS
from bench.report.metrics.base import Place
from bench.report.notes import notes
from bench.report.records import Records
from bench.report.select import CellIndex
from bench.report.specification import Specification
from bench.report.table import Table
from bench.report.table_specs import AnyTable, Column, TableSpec
from bench.site import papers

KEPT = ("clean", "worst", "flags")  # a column's name begins so: it stands first, so that what remains is in view
QUERIES = "threat.queries"


@dataclass(frozen=True)
class Shown:
    """A table, its columns in the page's order, those of a smaller budget than a neighbour's, and the lines below it."""

    table: Table
    columns: tuple[str, ...]
    smaller: frozenset[str]
    notes: tuple[str, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """The columns that stay in view, the first ones."""
        return tuple(column for column in self.columns if column.lower().startswith(KEPT))


@dataclass(frozen=True)
class WorstRow:
    """A row's per-image worst case: which cells it is over."""

    table: str
    row: str
    column: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """figures: name -> (title, the SVG file). damaged: a line a cell that couldn't be read. keys: of its cells."""

    name: str
    title: str
    store: Path
    paper: str | None
    lines: tuple[str, ...]  # the grid's lines in words
    tables: tuple[Shown, ...]
    figures: dict[str, tuple[str, Path]]
    damaged: tuple[str, ...]
    keys: frozenset[str]
    worst: tuple[WorstRow, ...]

    @property
    def command(self) -> str:
        return f"python -m bench +experiment={self.name}"


def reported(store: Path) -> list[str]:
    """The experiments that the store has tables of: a report wrote them."""
    written = [path.name for path in (store / "tables").glob("*.csv")]
    return [name for name in sorted(places.choices("experiment")) if any(w.startswith(f"{name}-") for w in written)]


def read(store: Path, name: str) -> Experiment:
    """Raises BenchError for an unknown experiment."""
    typed = [f"+experiment={name}", f"store={store}"]
    spec, cells, records = specification.read(typed), grid.cells(typed), Records()
    built = dict(reporter.built_tables(cells, spec, records))
    found = [
        Shown(each, tuple(ordered(each.columns)), smaller(spec.tables.get(table)), tuple(notes(each)))
        for table, each in built.items()
    ]
    drawn = {
        each: (figure.title or each, store / "figures" / f"{name}-{each}.svg") for each, figure in spec.figures.items()
    }
    figures = {each: (title, path) for each, (title, path) in drawn.items() if path.exists()}
    config = grid.base(typed)
    keys = frozenset(key for cell in cells for key in (cell.key, cell.clean_key))
    return Experiment(
        name, str(config.get("title") or name), store, papers.of(name, spec.tables.values()), tuple(_lines(config)), tuple(found),
        figures, tuple(records.damaged.values()), keys, tuple(_worst(spec, CellIndex(cells))),
    )  # fmt: skip


def _worst(spec: Specification, cells: CellIndex) -> Iterator[WorstRow]:
    """Of budgets as they were run, and of first answers: what a record alone says of an image."""
    for name, table in spec.tables.items():
        if not isinstance(table, TableSpec):
            continue
        for place in (Place(name, table, *pair) for pair in table.places()):
            if place.column.metric != "per_image_worst":
                continue
            needs = METRICS[place.column.metric].needs(place, cells)
            if all(need.at is None for need in needs):
                keys = (cells.only(need.where, need.label, clean=False).key for need in needs)
                yield WorstRow(name, place.row.name, place.column.name, tuple(dict.fromkeys(keys)))


def ordered(columns: Sequence[str]) -> list[str]:
    """Clean, worst and flags first; else as the paper has them."""

    def rank(column: str) -> int:
        return next((i for i, word in enumerate(KEPT) if column.lower().startswith(word)), len(KEPT))

    return sorted(columns, key=rank)


def smaller(spec: AnyTable | None) -> frozenset[str]:
    """Columns that show the same as another one, at a smaller budget of queries."""
    if not isinstance(spec, TableSpec):
        return frozenset()
    most: dict[str, int] = {}
    budgets = {column.name: (_but_budget(column), _budget(column)) for column in spec.columns}
    for of, budget in budgets.values():
        most[of] = max(most.get(of, 0), budget or 0)
    return frozenset(name for name, (of, budget) in budgets.items() if budget is not None and budget < most[of])


def _budget(column: Column) -> int | None:
    found = column.at if column.at is not None else column.where.get(QUERIES)
    return int(found) if isinstance(found, int) else None


def _but_budget(column: Column) -> str:
    where = {name: value for name, value in column.where.items() if name != QUERIES}
    return repr((column.metric, sorted(map(str, where.items()))))


def _lines(config: Mapping[str, Any]) -> list[str]:
    """`defense: none, rnd × attack: square`."""
    return [
        " × ".join(f"{axis}: {_listed(values)}" for axis, values in line.items()) for line in config.get("grid") or []
    ]


def _listed(values: Any) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) else str(values)
