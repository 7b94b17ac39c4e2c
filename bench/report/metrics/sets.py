"""Numbers of a whole model set: from the cells of all its members, and of all sources where the metric is of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from bench.report import transfer_matrix
from bench.report.metrics.base import Found, Metric, Need, Place
from bench.report.records import Images, Records
from bench.report.select import CellIndex, samples
from bench.report.values import Value


@dataclass(frozen=True)
class OfSet(Metric):
    takes: ClassVar[frozenset[str]] = frozenset({"at"})

    def needs(self, place: Place, cells: CellIndex) -> list[Need]:
        configs = [cell.config for cell in cells.matching(place.where)]
        if not configs:  # the look-up says what there is
            return [Need(place.where, place.label)]
        lines = transfer_matrix.places(place.column.metric, configs, place.table.source, place.label)
        return [Need(place.where | each, place.label, place.column.at) for line in lines for each in line]

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        read = [self._read(each, records) for each in found]
        n = transfer_matrix.members([found[0].cell.config], place.label)
        lines = [read[start : start + n] for start in range(0, len(read), n)]
        return transfer_matrix.value(place.column.metric, lines, place.label)

    def _read(self, found: Found, records: Records) -> Images:
        return found.attacked(records)


@dataclass(frozen=True)
class CleanOfSet(OfSet):
    """As OfSet, of the members' clean passes."""

    clean: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset()

    def _read(self, found: Found, records: Records) -> Images:
        return records.clean_pass(found.cell, samples(found.cell))


@dataclass(frozen=True)
class AllOfSet(OfSet):
    """As OfSet, counted as the paper does: an image that is wrong when clean and becomes right is right."""

    def _read(self, found: Found, records: Records) -> Images:
        return found.attacked(records).counting_all()
