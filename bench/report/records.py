"""What a report knows of stored cells, as typed columns; each cell's records are read once. Imports no torch."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from bench.config import rehearsal
from bench.config.grid import GridCell
from bench.core.errors import BenchError
from bench.core.place import Place
from bench.report.select import samples
from bench.store import packs
from bench.store.records import SCHEMA, Cell

CAPACITY = 256 * 2**20  # bytes of records that are kept for a second reading
T = TypeVar("T", bound="Images")


class Missing(Exception):
    """A cell that lacks samples, or that is damaged."""

    def __init__(self, key: str, command: str) -> None:
        super().__init__()
        self.key, self.command = key, command


@dataclass(frozen=True)
class Images:
    """One entry a sample, in the cell's order."""

    sample: np.ndarray  # (N,) int64, the index in the data set
    position: np.ndarray  # (N,) int64
    clean: np.ndarray  # (N,) bool, correctly classified

    @classmethod
    def of(cls: type[T], columns: Mapping[str, Any]) -> T:
        """From the store's columns; a number that is null is NaN, a column that is not there all NaN."""
        nothing, kinds = np.full(len(columns["sample"]), np.nan), {"sample": np.int64, "position": np.int64}
        found = {name: np.asarray(columns.get(name, nothing)) for name in cls.names()}
        flags = ("clean", "fooled", "unstarted")
        if "unstarted" in found and "unstarted" not in columns:
            found["unstarted"] = np.zeros(len(nothing))
        return cls(**{n: each.astype(bool if n in flags else kinds.get(n, np.float64)) for n, each in found.items()})

    @classmethod
    def names(cls) -> list[str]:
        return [each.name for each in fields(cls)]

    def at(self: T, chosen: Any) -> T:
        """The entries that a slice, a mask or an array of places picks."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in self.names()})

    def has_first(self, n: int) -> bool:
        """Are the first n of the order there?"""
        return len(self.position) >= n and bool((self.position[:n] == np.arange(n)).all())

    def first(self: T, n: int | None) -> T:
        return self if n is None or len(self.position) <= n else self.at(self.position < n)

    @property
    def robust(self) -> np.ndarray:
        """(N,) bool. Without an attack: correctly classified."""
        return self.clean

    @property
    def nbytes(self) -> int:
        return sum(getattr(self, name).nbytes for name in self.names())


@dataclass(frozen=True)
class CleanPass(Images):
    """A victim's answers to clean images."""


@dataclass(frozen=True)
class Attacked(Images):
    """A victim under an attack."""

    fooled: np.ndarray  # (N,) bool, within the budget
    first_any: np.ndarray  # the first query that fooled, wherever it lay
    queries: np.ndarray  # (N,) float64 from here on
    re_evaluation_success: np.ndarray  # share of re-evaluations in which the found image still fools
    margin: np.ndarray  # lowest margin loss that the attacker saw
    linf: np.ndarray
    l2: np.ndarray
    l1: np.ndarray
    flow: np.ndarray  # mean |v| in pixels
    passes_fwd: np.ndarray
    grad_zero: np.ndarray  # share of the gradient's entries
    grad_nonfinite: np.ndarray
    refused: np.ndarray  # queries that the defence declined to answer; NaN where it answers all
    first_refused: np.ndarray  # NaN = none was
    unstarted: np.ndarray  # (N,) bool: the attack never began

    def within(self, queries: int | None) -> "Attacked":
        """As of a smaller budget, for attacks whose first queries don't depend on it: what was found later was not found."""
        if queries is None:
            return self
        found = self.fooled & (self.queries <= queries)
        return replace(
            self,
            fooled=found,
            re_evaluation_success=np.where(found, self.re_evaluation_success, 0.0),
            first_refused=np.where(self.first_refused <= queries, self.first_refused, np.nan),
        )

    def only_started(self) -> "Attacked":
        """Of an attack that begins only where some image fools: where none did, the image counts as undefined, not as robust."""
        return replace(self, unstarted=self.clean & ~self.fooled & np.isnan(self.first_any))

    @property
    def robust(self) -> np.ndarray:
        """Correctly classified and not fooled at any query within the budget."""
        return self.clean & ~self.fooled

    @property
    def right_now(self) -> np.ndarray:
        """(N,) bool: right on the attacker's image, also where the clean one was wrong. Raises BenchError where those were not
        sent (attack.wrong_too)."""
        if np.isnan(self.margin[~self.clean]).any():
            raise BenchError("images that are wrong when clean were not attacked; set attack.wrong_too=true")
        return np.where(self.clean, ~self.fooled, self.margin >= 0)

    def counting_all(self) -> "Attacked":
        """As if what is right on the attacker's image had been correctly classified: the disjoint paper's way to count."""
        return replace(self, clean=self.right_now, fooled=~self.right_now)

    @property
    def robust_re_evaluated(self) -> np.ndarray:
        """As `robust`, but an image counts as broken if the found example fools in most of its re-evaluations. A query attack's
        images were re-evaluated where one fooled; those of a white-box attack on a random victim all were, so that a lucky
        first output counts for neither side."""
        unknown = np.isnan(self.re_evaluation_success)
        return self.clean & ~np.where(unknown, self.fooled, self.re_evaluation_success > 0.5)


def on_common_images(each: Sequence[T]) -> list[T]:
    """Each on the images that all of them have, in one order."""
    common = reduce(np.intersect1d, [one.sample for one in each])
    orders = [np.argsort(one.sample) for one in each]
    return [
        one.at(order[np.searchsorted(one.sample, common, sorter=order)])
        for one, order in zip(each, orders, strict=True)
    ]


@dataclass(frozen=True)
class Facts:
    """What a table needs of a cell.yaml."""

    samples_in_all: int | None
    anytime: bool  # do the attack's first queries not depend on the budget?
    needs_start: bool  # does the attack begin only where some image fools?
    cost: Mapping[str, Any] | None


class Records:
    """The reader of one report. Raises Missing for a cell that lacks samples or is damaged; damaged ones are also listed."""

    def __init__(self) -> None:
        self.damaged: dict[str, str] = {}  # key -> one line
        self._kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()  # the last ones used stand last
        self._bytes = 0
        self._facts: dict[tuple[Place, str], Facts] = {}

    def attacked(self, cell: GridCell, at: int | None, label: str) -> Attacked:
        """The cell's images under attack, within the budget `at` where one is given."""
        n, asked = samples(cell), cell.spec.threat.queries
        if at is not None and rehearsal.is_on(cell.config):  # its budgets are toys
            at = min(at, asked)
        found = self._complete(cell, cell.key, n, Attacked, cell.key)
        self._complete(cell, cell.clean_key, n, CleanPass, cell.key)
        if at is not None and at != asked and not self.facts(cell, cell.key).anytime:
            raise BenchError(
                f"{label}: `at: {at}` needs an attack whose first queries don't depend on the budget; set attack.horizon"
            )
        if at is not None and at > asked:
            raise BenchError(f"{label}: `at: {at}` exceeds the budget that was run, {asked}")
        first = found.first(n)
        return (first.only_started() if self.facts(cell, cell.key).needs_start else first).within(at)

    def clean_pass(self, cell: GridCell, n: int | None) -> CleanPass:
        """The first n images of the cell's clean pass."""
        return self._complete(cell, cell.clean_key, n, CleanPass, cell.clean_key).first(n)

    def whole_clean_pass(self, cell: GridCell) -> CleanPass:
        """All images of the clean pass, maybe more than were attacked."""
        return self._images(cell, cell.clean_key, CleanPass)

    def logits(self, cell: GridCell, n: int | None) -> tuple[np.ndarray, np.ndarray]:
        """(N,) sample numbers and (N,K) float32 logits of the clean pass."""
        self.clean_pass(cell, n)
        store = cell.runtime.store

        def read() -> tuple[np.ndarray, np.ndarray]:
            frame = self.frame(store, cell.clean_key, ["sample", "position", "logits"])
            chosen = frame if n is None else frame.loc[frame["position"] < n]
            return chosen["sample"].to_numpy(), np.stack(list(chosen["logits"]))

        return self._once((store, cell.clean_key, n, "logits"), read, lambda found: sum(each.nbytes for each in found))

    def facts(self, cell: GridCell, key: str) -> Facts:
        place = cell.runtime.store, key
        if place not in self._facts:
            content = Cell(*place).description()
            self._facts[place] = Facts(
                content.get("samples_in_all"),
                bool(content.get("anytime")),
                bool(content.get("needs_start")),
                content.get("cost"),
            )
        return self._facts[place]

    def exists(self, store: Place, key: str) -> bool:
        """Is there any part of the cell, good or damaged?"""
        return any((store / "cells" / key).glob("part-*")) or packs.find(store, key) is not None

    def frame(self, store: Place, key: str, columns: Sequence[str]) -> pd.DataFrame:
        """Some columns of a cell, as they are stored. Raises BenchError where the cell is damaged."""
        return Cell(store, key).frame(columns)

    def _complete(self, cell: GridCell, key: str, n: int | None, kind: type[T], linked: str) -> T:
        """Raises Missing, with the key `linked`, where the cell with key `key` lacks samples."""
        try:
            found = self._images(cell, key, kind)
            wanted = self.facts(cell, key).samples_in_all if n is None else n
        except BenchError as error:
            self.damaged.setdefault(key, str(error))
            raise Missing(linked, cell.command) from None
        if wanted is None or not len(found.sample) or not found.has_first(wanted):
            raise Missing(linked, cell.command)
        return found

    def _images(self, cell: GridCell, key: str, kind: type[T]) -> T:
        store = cell.runtime.store
        return self._once((store, key), lambda: kind.of(columns(Cell(store, key), kind)), lambda found: found.nbytes)

    def _once(self, place: tuple[Any, ...], read: Callable[[], Any], size: Callable[[Any], int]) -> Any:
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        found = self._kept[place] = read()
        self._bytes += size(found)
        while self._bytes > CAPACITY and len(self._kept) > 1:
            self._bytes -= size(self._kept.popitem(last=False)[1])
        return found


def columns(cell: Cell, kind: type[Images]) -> dict[str, np.ndarray]:
    """A cell's stored columns that `kind` is made of."""
    return cell.arrays([name for name in kind.names() if name in SCHEMA.names])
