"""Numbers of a clean pass: accuracy, distance to the undefended network, cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.core.errors import BenchError
from bench.report.metrics.base import Found, Metric, Need, Place
from bench.report.records import Records
from bench.report.select import CellIndex, samples
from bench.report.values import NAN, Value, mean, share_of


@dataclass(frozen=True)
class CleanAccuracy(Metric):
    clean: ClassVar[bool] = True

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        return share_of(records.clean_pass(found[0].cell, samples(found[0].cell)).clean)


@dataclass(frozen=True)
class LogitDifference(Metric):
    """Mean l2 distance of raw logits to the undefended network's, on the same clean images."""

    clean: ClassVar[bool] = True

    def needs(self, place: Place, cells: CellIndex) -> list[Need]:
        return [Need(place.where, place.label), Need(place.table.reference, f"tables.{place.name}.reference")]

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        n = samples(found[0].cell)
        ours, reference = (records.logits(each.cell, n) for each in found)
        return mean(distances(*ours, *reference))


def distances(sample: np.ndarray, logits: np.ndarray, other_sample: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(M,) l2 distances of (N,K) to (N',K) logits on the M samples that both have."""
    place = {number: i for i, number in enumerate(other_sample.tolist())}
    both = [(i, place[number]) for i, number in enumerate(sample.tolist()) if number in place]
    mine, theirs = (np.array([pair[side] for pair in both], dtype=np.int64) for side in (0, 1))
    return np.linalg.norm((logits[mine] - other[theirs]).astype(np.float64), axis=1)


@dataclass(frozen=True)
class Cost(Metric):
    """As the first run of the clean pass measured it."""

    counted: str = ""  # the name in cell.yaml
    scale: float = 1.0
    clean: ClassVar[bool] = True

    def value(self, place: Place, found: Sequence[Found], records: Records) -> Value:
        cell = found[0].cell
        records.clean_pass(cell, samples(cell))
        measured = records.facts(cell, cell.clean_key).cost
        if measured is None:
            raise BenchError(
                f"{place.label}: cell {cell.clean_key} was made before costs were measured; move it away and rerun"
            )
        value = float(measured[self.counted]) / self.scale
        return Value(value, 1, NAN, NAN, f"{value:.3g}")
