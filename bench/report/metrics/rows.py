"""Numbers of several cells of a row: the per-image worst case, a paired test, signs of masked gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import ClassVar

import numpy as np

from bench.core.errors import BenchError
from bench.report import masking_flags
from bench.report.metrics.base import Found, Metric, Need, Place, known_columns
from bench.report.records import Attacked, Records, on_common_images
from bench.report.select import CellIndex
from bench.report.table_specs import Column, FlagGroups, TableSpec
from bench.report.values import NAN, Value, share_of


@dataclass(frozen=True)
class WorstCase(Metric):
    """The images of the row that no attack of `of` breaks."""

    re_evaluated: bool = False  # broken only if the found image fools in most re-evaluations, too
    takes: ClassVar[frozenset[str]] = frozenset({"of"})

    def check(self, table: TableSpec, column: Column, label: str) -> None:
        super().check(table, column, label)
        if isinstance(column.of, FlagGroups):
            raise BenchError(f"{label}: `of` of {column.metric} is a list of columns")
        known_columns(table, column.of or (), label)

    def needs(self, place: Place, cells: CellIndex) -> list[Need]:
        assert isinstance(place.column.of, tuple)
        used = [name for name in place.column.of if name not in place.row.without]
        return [_need(place, name) for name in _some(used, place)]

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        return worst_case([each.attacked(records) for each in found], self.re_evaluated)


def worst_case(attacks: Sequence[Attacked], re_evaluated: bool) -> Value:
    """Images that are correctly classified and that none of the attacks breaks, among those that all of them were run on."""
    common = on_common_images(attacks)
    robust = [each.robust_re_evaluated if re_evaluated else each.robust for each in common]
    return share_of(np.logical_and.reduce(robust))


@dataclass(frozen=True)
class McNemar(Metric):
    """Exact two-sided McNemar test on the same images (McNemar 1947): does one of two victims break on more of those on which
    they differ? The value is p."""

    takes: ClassVar[frozenset[str]] = frozenset({"against", "at"})

    def needs(self, place: Place, cells: CellIndex) -> list[Need]:
        other = place.where | (place.column.against or {})
        return [
            Need(place.where, place.label, place.column.at), Need(other, f"{place.label}, against", place.column.at),
        ]  # fmt: skip

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        ours, other = (each.attacked(records) for each in found)
        return mcnemar(ours, other)


def mcnemar(ours: Attacked, other: Attacked) -> Value:
    """p, shown with how many images are kept by ours alone : by the other alone."""
    mine, theirs = (each.robust for each in on_common_images([ours, other]))
    b, c = int(np.count_nonzero(mine & ~theirs)), int(np.count_nonzero(theirs & ~mine))
    p = min(1.0, 2 * sum(comb(b + c, k) for k in range(min(b, c) + 1)) / 2 ** (b + c))
    return Value(p, len(mine), NAN, NAN, f"p {p:.2g} ({b} : {c})")


@dataclass(frozen=True)
class Flags(Metric):
    """Signs of masked gradients among the row's cells."""

    takes: ClassVar[frozenset[str]] = frozenset({"of"})

    def check(self, table: TableSpec, column: Column, label: str) -> None:
        super().check(table, column, label)
        if not isinstance(column.of, FlagGroups):
            raise BenchError(f"{label}: `of` of {column.metric} is groups of columns: of: {{white_box: [...], ...}}")
        known_columns(table, column.of.columns(), label)

    def _used(self, place: Place) -> FlagGroups:
        assert isinstance(place.column.of, FlagGroups)
        return place.column.of.without(place.row.without)

    def needs(self, place: Place, cells: CellIndex) -> list[Need]:
        used = dict.fromkeys(self._used(place).columns())  # each once
        return [_need(place, name) for name in _some(list(used), place)]

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        used = self._used(place)
        columns = dict.fromkeys(used.columns())
        attacks = {name: each.attacked(records) for name, each in zip(columns, found, strict=True)}
        return masking_flags.flags(used, attacks)


def _need(place: Place, name: str) -> Need:
    """The cell of another column, as that column reads it."""
    other = place.beside(name)
    return Need(other.where, place.label, other.column.at)


def _some(used: list[str], place: Place) -> list[str]:
    if not used:
        raise BenchError(f"{place.label}: the row is `without` every column of `of`; put this one there, too")
    return used
