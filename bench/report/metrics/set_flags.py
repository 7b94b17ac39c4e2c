"""Signs of masked gradients among a model set's numbers: attacks whose order of strength true gradients would not give."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bench.core.errors import BenchError
from bench.report import masking_flags, transfer_matrix
from bench.report.metrics.base import Found, Metric, Need, Place, known_columns
from bench.report.metrics.sets import OfSet
from bench.report.records import Records
from bench.report.select import CellIndex
from bench.report.table_specs import Column, FlagGroups, TableSpec
from bench.report.values import NAN, Value

KNOWN = frozenset({"white_box", "transfer", "black_box", "weaker_first"})


@dataclass(frozen=True)
class SetFlags(Metric):
    """As Flags, but of the numbers that the columns show: each is of many cells, not of one."""

    takes: ClassVar[frozenset[str]] = frozenset({"of"})

    def check(self, table: TableSpec, column: Column, label: str) -> None:
        super().check(table, column, label)
        if not isinstance(column.of, FlagGroups) or set(column.of.model_fields_set) - KNOWN:
            raise BenchError(f"{label}: `of` of {column.metric} is groups of columns: {', '.join(sorted(KNOWN))}")
        known_columns(table, column.of.columns(), label)
        of_sets = (*transfer_matrix.PAIRS, *transfer_matrix.OWNED, *transfer_matrix.OTHERS)
        for name in column.of.columns():
            if (metric := table.column(name).metric) not in of_sets:
                raise BenchError(f"{label}: column {name} is {metric}, no number of a set under attack")

    def needs(self, place: Place, cells: CellIndex) -> list[Need]:
        places = [place.beside(name) for name in _names(place)]
        if not places:
            raise BenchError(f"{place.label}: the row is `without` every column of `of`; put this one there, too")
        return [need for each in places for need in OfSet().needs(each, cells)]

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        values = dict[str, Value]()
        for name in _names(place):
            beside = place.beside(name)
            its = [each for each in found if each.need.label == beside.label]
            values[name] = OfSet().value(beside, its, records)
        shown = list(masking_flags.of_numbers(_groups(place), {name: value.value for name, value in values.items()}))
        return Value(len(shown), max(value.n for value in values.values()), NAN, NAN, "; ".join(shown) or "none")


def _groups(place: Place) -> FlagGroups:
    assert isinstance(place.column.of, FlagGroups)
    return place.column.of.without(place.row.without)


def _names(place: Place) -> list[str]:
    return list(dict.fromkeys(_groups(place).columns()))
