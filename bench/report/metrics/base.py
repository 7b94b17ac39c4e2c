"""What a metric is: it says which cells it needs and makes a Value of their records. Imports no torch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.config.grid import GridCell
from bench.core.errors import BenchError, nearest
from bench.report.records import Attacked, Records
from bench.report.select import CellIndex
from bench.report.table_specs import Column, Row, TableSpec
from bench.report.values import Value


@dataclass(frozen=True)
class Place:
    """Where an entry stands."""

    name: str  # of the table
    table: TableSpec
    row: Row
    column: Column

    @property
    def label(self) -> str:
        return f"tables.{self.name}: row {self.row.name}, column {self.column.name}"

    @property
    def where(self) -> dict[str, Any]:
        return self.row.where | self.column.where

    def beside(self, name: str) -> "Place":
        """The same row in another column."""
        return Place(self.name, self.table, self.row, self.table.column(name))


@dataclass(frozen=True)
class Need:
    """One cell that a metric is computed from."""

    where: Mapping[str, Any]
    label: str
    at: int | None = None  # a budget below the cell's own


@dataclass(frozen=True)
class Found:
    """The cell that was meant, and how it is read."""

    cell: GridCell
    need: Need

    def attacked(self, records: Records) -> Attacked:
        """Raises Missing where the cell lacks samples."""
        return records.attacked(self.cell, self.need.at, self.need.label)


@dataclass(frozen=True)
class Metric(ABC):
    """One kind of number. To add one: a subclass or an instance with its name in bench.report.metrics.METRICS."""

    unit: str = "percent"
    digits: int = 1
    counts: str = ""  # its n are all `images` of the order, or those `right` when clean
    averaged: bool = True  # over seeds; else what each seed says is shown
    note: str = ""  # stands below a table that shows it

    clean: ClassVar[bool] = False  # of the clean pass alone: cells that differ in the attack alone are one
    takes: ClassVar[frozenset[str]] = frozenset()  # the column's fields beside name, metric, where, printed, ambiguity

    def check(self, table: TableSpec, column: Column, label: str) -> None:
        """Raises BenchError where the column says too little, or what the metric has no use for."""
        for field in ("at", "of", "against"):
            given = getattr(column, field) is not None
            if given and field not in self.takes:
                raise BenchError(f"{label}: metric {column.metric} has no use for `{field}`; remove it")
            if field in self.takes and not given and field != "at":
                raise BenchError(f"{label}: metric {column.metric} needs `{field}`")

    def needs(self, place: Place, cells: CellIndex) -> list[Need]:
        """The cells; the entry is named after the first. By default, the one of the row and the column."""
        return [Need(place.where, place.label, place.column.at)]

    @abstractmethod
    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        """`found`: the cells of `needs`, in its order. Raises Missing where one lacks samples."""


def known_columns(table: TableSpec, names: Sequence[str], label: str) -> None:
    """Raises BenchError where `of` names a column that the table has not."""
    columns = [column.name for column in table.columns]
    for name in names:
        if name not in columns:
            raise BenchError(f"{label}: `of` names no column {name}{nearest(name, columns)}")
