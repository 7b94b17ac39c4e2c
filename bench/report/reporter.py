"""python -m bench.report +experiment=...: regenerates the experiment's tables and figures from stored results. Imports no torch.

Writes results/tables/<experiment>-<table>.md, .csv, .tex and .html, results/figures/<experiment>-<figure>.svg and .png, and
prints the tables. A damaged cell is named in a line and counts as missing; the exit code is then 1.
"""

import shlex
import sys
from collections.abc import Iterator, Sequence

from bench.config import grid, places, talk
from bench.config.grid import GridCell
from bench.core.errors import BenchError
from bench.report import specification, terminal
from bench.report.beside_published import beside
from bench.report.figures.draw import draw
from bench.report.formats.write import write
from bench.report.notes import notes
from bench.report.plain_table import plain_table
from bench.report.records import Records
from bench.report.seeds import BySeed, build_over
from bench.report.select import CellIndex
from bench.report.specification import Specification
from bench.report.table import Table
from bench.store import look, published


def built_tables(cells: Sequence[GridCell], spec: Specification, records: Records) -> Iterator[tuple[str, Table]]:
    """Every table of the experiment by its name, each number beside the published one. `records` learns of damaged cells."""
    by_seed = BySeed(CellIndex(cells))
    for name, each in (spec.tables or {"cell": plain_table(cells)}).items():
        built = build_over(name, each, by_seed, records, spec.narrowed)
        yield name, beside(built, name, each, cells, spec.narrowed)


def show(cells: Sequence[GridCell], spec: Specification) -> bool:
    """Prints and writes every table of the experiment, and draws its figures. Returns whether no cell was damaged."""
    cells = look.cells(cells)
    store, records = cells[0].runtime.store, Records()
    tables, said = dict[str, Table](), list[str]()
    for name, built in built_tables(cells, spec, records):
        tables[name], below = built, notes(built)
        if spec.whole:  # nothing else may overwrite the experiment's
            write(store / "tables" / f"{spec.name}-{name}", built, below)
        if talk.as_json():
            terminal.show_json(name, built)
        elif built.rows or spec.whole:  # a narrowed grid may leave nothing of a table
            terminal.show(built, below)
    for name, figure in (spec.figures if spec.whole else {}).items():
        try:
            draw(name, figure, tables, store, records, store / "figures" / f"{spec.name}-{name}")
        except BenchError as error:  # one figure's missing cell must not cost the others
            said.append(f"not drawn: {error}")
    if spec.tables and not spec.whole:
        said.append(
            "not written: the command line changes the experiment; for tables of your own, write a YAML of your own"
        )
    said += published.summary(store, [key for cell in cells for key in (cell.key, cell.clean_key)])
    for line in () if talk.as_json() else said:
        print(f"  {line}")
    for line in records.damaged.values():
        print(f"error: {line}", file=sys.stderr)
    return not records.damaged


def _check_any(cells: Sequence[GridCell], typed: Sequence[str]) -> None:
    """Raises BenchError where there is nothing to report, before tables of dashes are written."""
    cells = look.cells(cells)
    records, store = Records(), cells[0].runtime.store
    if not any(records.exists(store, key) for cell in cells for key in (cell.key, cell.clean_key)):
        raise BenchError(
            f"{store} has no record of these {len(cells)} cells; make them by `{shlex.join(['python', '-m', 'bench', *typed])}`, "
            "or name another store=<folder>"
        )


def main() -> None:
    try:
        typed = talk.taken(places.taken(sys.argv[1:]))
        if any(argument in ("-h", "--help") for argument in typed):
            print((__doc__ or "").strip())
            return
        spec = specification.read(typed)  # first: a wrong word in a table is cheaper to find than a grid to compose
        cells = grid.cells(typed)
        _check_any(cells, typed)
        if not show(cells, spec):
            sys.exit(1)
    except BenchError as error:
        sys.exit(f"error: {error}")
