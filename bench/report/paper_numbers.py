"""The papers' printed numbers: results/papers/*.csv, one row a number. Imports no torch."""

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bench.config import places
from bench.core.errors import BenchError, nearest
from bench.report.table_specs import Column, Row, TableSpec

FOLDER = places.shipped("results") / "papers"


class Printed:
    """One CSV's numbers, indexed by what its columns say."""

    def __init__(self, file: str, rows: list[dict[str, str]]) -> None:
        self.file, self.rows = file, rows
        self._places: dict[str, dict[str, set[int]]] = {}  # column -> value -> rows
        for i, row in enumerate(rows):
            for name, value in row.items():
                self._places.setdefault(name, {}).setdefault(value, set()).add(i)

    @classmethod
    def read(cls, file: str | None) -> "Printed | None":
        """The CSV that a table's YAML names, if it names one."""
        return cls.of(file) if file else None

    @classmethod
    def of(cls, file: str) -> "Printed":
        path = FOLDER / file
        if not path.exists():
            raise BenchError(f"no printed numbers at {path}; correct `printed` or add the CSV")
        return cls(file, _rows(path))

    def number(self, table: TableSpec, row: Row, column: Column) -> float | None:
        """The one printed value that the row and the column describe; none where either has no `printed`."""
        place = self.place(table, row, column)
        return None if place is None else float(self.rows[place]["value"])

    def place(self, table: TableSpec, row: Row, column: Column) -> int | None:
        """Where in `rows` that number stands."""
        if row.printed is None or column.printed is None:
            return None
        where = table.select | row.printed | column.printed
        found = self.matching(where)
        if len(found) > 1:
            raise BenchError(f"printed: {where} matches {len(found)} rows of {self.file}; make it more exact")
        return found.pop() if found else None

    def matching(self, where: Mapping[str, object]) -> set[int]:
        """The places in `rows` of all numbers of these names (`delta=1;*` is a beginning). Raises BenchError for a column or a
        value that no paper has."""
        found = set(range(len(self.rows)))
        for name, value in where.items():
            found &= self._with(name, str(value))
        return found

    def _with(self, name: str, pattern: str) -> set[int]:
        if name not in self._places:
            raise BenchError(f"printed: {self.file} has no column {name}{nearest(name, self._places)}")
        known = self._places[name]
        same = [
            value for value in known if value == pattern or (pattern[-1:] == "*" and value.startswith(pattern[:-1]))
        ]
        if not same and pattern not in _named(name):  # a table may lack a value, but a misspelt one no paper has
            raise BenchError(f"printed: {self.file} has no {name}={pattern}{nearest(pattern, known)}")
        return set().union(*(known[value] for value in same))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@cache
def _named(column: str) -> set[str]:
    """Every value of a column in all papers' numbers."""
    return {row[column] for path in sorted(FOLDER.glob("*.csv")) for row in _rows(path) if column in row}
