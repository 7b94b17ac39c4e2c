"""Numbers over panels, each one setting (data, network) under one attack: which method wins, and by how much one beats another at
like clean accuracy (FGR paper, Table 1 and the text on its Fig. 6). A table's `panels` says what they are
(bench.report.table_specs).

A row is named after a group of settings, or after an attack, or `all`; a column's `of` names the methods.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.core.errors import BenchError, nearest
from bench.report.metrics.base import Found, Metric, Need, Place
from bench.report.records import Records
from bench.report.select import CellIndex
from bench.report.table_specs import Column, Panels, TableSpec, Where
from bench.report.values import NAN, Value

EVERYTHING = "all"
WON = "Panels won: the highest adversarial accuracy of all methods, of equal ones the higher clean accuracy."
GAINS = (
    "Gains: adversarial accuracy of the first method less the second's, in points, over all panels and lambdas: each lambda of "
    "the first with the second's of the nearest clean accuracy, or with the same one where both have it."
)
SUMMARIES: dict[str, Callable[[np.ndarray], float]] = {"min": np.min, "mean": np.mean, "max": np.max}  # type: ignore[dict-item]


@dataclass(frozen=True)
class Point:
    """One candidate of a method in one panel, in percent of all images."""

    clean: float
    adversarial: float


Panel = Mapping[str, Sequence[Point]]  # method -> its candidates


@dataclass(frozen=True)
class OverPanels(Metric):
    """Of the panels that the row names."""

    takes: ClassVar[frozenset[str]] = frozenset({"of"})
    methods: ClassVar[int]  # how many `of` names

    def check(self, table: TableSpec, column: Column, label: str) -> None:
        super().check(table, column, label)
        if table.panels is None:
            raise BenchError(f"{label}: metric {column.metric} needs the table's `panels`")
        if not isinstance(column.of, tuple) or len(column.of) != self.methods:
            raise BenchError(f"{label}: `of` of {column.metric} names {self.methods} of the methods of `panels`")
        for name in (*column.of, table.panels.nearest_to):
            if name not in table.panels.methods:
                raise BenchError(f"{label}: no method {name} in `panels`{nearest(name, table.panels.methods)}")
        for row in table.rows:
            _chosen(table.panels, row.name, label)

    def needs(self, place: Place, cells: CellIndex) -> list[Need]:
        return [
            Need(where | candidate, f"{place.label}, {method}")
            for where in _panels(place)
            for method in self._names(place)
            for candidate in _spec(place).methods[method]
        ]

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        left, n = list(found), 0
        panels = list[Panel]()
        for _ in _panels(place):
            panel = dict[str, list[Point]]()
            for method in self._names(place):
                for _ in _spec(place).methods[method]:
                    images = left.pop(0).attacked(records)
                    n = max(n, len(images.sample))
                    panel.setdefault(method, []).append(
                        Point(100 * float(images.clean.mean()), 100 * float(images.robust.mean()))
                    )
            panels.append(panel)
        return Value(self.of(panels, place.column, _spec(place)), n, NAN, NAN)

    def _names(self, place: Place) -> tuple[str, ...]:
        """The methods whose points are needed."""
        assert isinstance(place.column.of, tuple)
        return place.column.of

    @abstractmethod
    def of(self, panels: Sequence[Panel], column: Column, spec: Panels) -> float: ...


@dataclass(frozen=True)
class PanelsWon(OverPanels):
    methods: ClassVar[int] = 1

    def _names(self, place: Place) -> tuple[str, ...]:
        return tuple(_spec(place).methods)

    def of(self, panels: Sequence[Panel], column: Column, spec: Panels) -> float:
        assert isinstance(column.of, tuple)
        return float(sum(winner(panel, spec.nearest_to) == column.of[0] for panel in panels))


@dataclass(frozen=True, kw_only=True)
class Gain(OverPanels):
    which: str  # of SUMMARIES
    methods: ClassVar[int] = 2

    def of(self, panels: Sequence[Panel], column: Column, spec: Panels) -> float:
        assert isinstance(column.of, tuple)
        first, second = column.of
        together = {first, second} <= set(spec.same_lambda)
        gains = [gain for panel in panels for gain in differences(panel[first], panel[second], together)]
        return float(SUMMARIES[self.which](np.array(gains)))


@dataclass(frozen=True)
class CleanLoss(OverPanels):
    """What the first method loses in clean accuracy to the second at the same lambda, on average."""

    methods: ClassVar[int] = 2

    def of(self, panels: Sequence[Panel], column: Column, spec: Panels) -> float:
        assert isinstance(column.of, tuple)
        first, second = column.of
        pairs = [pair for panel in panels for pair in zip(panel[first], panel[second], strict=True)]
        return float(np.mean([theirs.clean - ours.clean for ours, theirs in pairs]))


def winner(panel: Panel, nearest_to: str) -> str:
    """Of each method the candidate whose clean accuracy is nearest that of `nearest_to`; of those the best under attack."""
    aim = panel[nearest_to][0].clean
    plays = {name: min(points, key=lambda point: abs(point.clean - aim)) for name, points in panel.items()}
    return max(plays, key=lambda name: (plays[name].adversarial, plays[name].clean))


def differences(first: Sequence[Point], second: Sequence[Point], together: bool) -> list[float]:
    """A number a candidate of `first`: its adversarial accuracy less that of its partner. together: the partner is the one at the
    same place, else the one of the nearest clean accuracy."""
    if together:
        partners = list(second)
        if len(partners) != len(first):
            raise BenchError(f"panels.same_lambda: {len(first)} candidates can't be paired with {len(partners)}")
    else:
        partners = [min(second, key=lambda other: abs(other.clean - point.clean)) for point in first]
    return [ours.adversarial - theirs.adversarial for ours, theirs in zip(first, partners, strict=True)]


def _spec(place: Place) -> Panels:
    assert place.table.panels is not None
    return place.table.panels


def _panels(place: Place) -> list[Where]:
    spec = _spec(place)
    settings, attacks = _chosen(spec, place.row.name, place.label)
    return [setting | attack for setting in settings for attack in attacks]


def _chosen(spec: Panels, name: str, label: str) -> tuple[list[Where], list[Where]]:
    """The settings and attacks that a row's name means."""
    everything = [setting for group in spec.settings.values() for setting in group]
    if name in spec.settings:
        return list(spec.settings[name]), list(spec.attacks.values())
    if name in spec.attacks:
        return everything, [spec.attacks[name]]
    if name != EVERYTHING:
        known = [*spec.settings, *spec.attacks, EVERYTHING]
        raise BenchError(f"{label}: row {name} is no group of settings, no attack{nearest(name, known)}")
    return everything, list(spec.attacks.values())
