"""Transfer matrices of a model set: T[s][t] = accuracy of member t on the images crafted on member s. Imports no torch.

tables:
  pgd:       {kind: matrix, title: ..., where: {recipe: disjoint_small, attack@attack.craft: pgd}}       # source x target
  summary:   # each number is of all pairs of one set
    rows:    [{name: disjoint 3, where: {recipe: disjoint_small}}]
    columns: [{name: PGD, metric: blackbox_acc, where: {attack@attack.craft: pgd}}, {name: clean, metric: set_clean_acc}]

owned_acc is of an attacker who owns m members: the mean over all targets, and over all sets of sources that the grid has.

The cells lie at model.member = t and, in `source` (default attack.sources.a.model.member), = s. Accuracy is the share of all
images that are correctly classified and not fooled. The papers also count images that are wrong when clean and become right. Such
images are not attacked here, so ours is lower by at most 100 - clean accuracy, and can't exceed clean accuracy as a leaked label
makes theirs. blackbox_acc_clean is over the target's correctly classified images alone. The metrics that end in `_all`
count as the papers do: all images are sent (attack.wrong_too), and what is right then counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.core.errors import BenchError
from bench.report.records import Images
from bench.report.table_specs import Column, MatrixSpec, Row, TableSpec
from bench.report.values import Value, mean, share

SOURCE, TARGET = "attack.sources.a.model.member", "model.member"
PAIRS = ("blackbox_acc", "blackbox_acc_clean", "whitebox_acc", "whole_set_acc", "minimum_pair")
CLEAN = ("set_clean_acc",)
OWNED = ("owned_acc",)
ALL = {"blackbox_acc_all": "blackbox_acc", "whole_set_acc_all": "whole_set_acc"}  # -> what is computed of them
OTHERS = ("set_robust_acc",)  # the mean over members of an attack that has no source among them
ALL_NOTE = (
    "Counted as the paper does: right on the attacker's image, whether or not correctly classified. A number above clean "
    "accuracy is no robustness: the label leaked into the image."
)
NOTE = "All images count; those wrong when clean are not attacked and count as wrong (papers: right if they become so)."


@dataclass(frozen=True)
class Matrix:
    """n members, N images in the same order everywhere."""

    # (S, n, N) bool: source, target, image correctly classified and not fooled; S = n, 1 without sources, or the sets owned
    right: np.ndarray
    clean: np.ndarray  # (n, N) bool: target, image correctly classified

    @property
    def accuracy(self) -> np.ndarray:
        """(S, n) percent."""
        return 100 * self.right.mean(2)


def places(
    metric: str, configs: Sequence[Mapping[str, Any]], source: str | None, label: str
) -> list[list[dict[str, int]]]:
    """Where a metric's cells lie: a line a source or set of sources (one line where it has none), a place a target."""
    n = members(configs, label)
    lines = [{source or SOURCE: s} for s in range(n)] if ALL.get(metric, metric) in PAIRS else [{}]
    if metric in OWNED:
        lines = owned(configs, label)
    return [[line | {TARGET: t} for t in range(n)] for line in lines]


def owned(configs: Sequence[Mapping[str, Any]], label: str) -> list[dict[str, int]]:
    """The members that the attacker owns, a line each time that the grid has others."""
    sources = [_sources(config["attack"]) for config in configs]
    found = [{f"attack.sources.{a}.model.member": each[a]["model"].get("member") for a in each} for each in sources]
    lines = [dict(line) for line in dict.fromkeys(tuple(line.items()) for line in found)]
    if len({len(line) for line in lines}) != 1 or any(value is None for line in lines for value in line.values()):
        raise BenchError(f"{label}: owned_acc is of one number of owned members; name attack.owned")
    return lines


def _sources(attack: Mapping[str, Any]) -> dict[str, Any]:
    """The first `owned` of those that the attack names."""
    return dict(list((attack.get("sources") or {}).items())[: attack.get("owned")])


def members(configs: Sequence[Mapping[str, Any]], label: str) -> int:
    """n of the one set that the cells are of."""
    found = {config["model"].get("members") for config in configs}
    n = found.pop() if len(found) == 1 else None
    if n is None:
        what = "no cell" if not configs else "cells of other models than sets of one size"
        raise BenchError(f"{label}: `where` matches {what}; name the model and recipe of one set (model=set_…)")
    return int(n)


def spelled_out(name: str, spec: MatrixSpec, configs: Sequence[Mapping[str, Any]]) -> TableSpec:
    """A `kind: matrix` table as an ordinary one: a row a source, a column a target."""
    n, source = members(configs, f"tables.{name}"), spec.source or SOURCE
    rows = tuple(Row(name=f"crafted on {s}", where=spec.where | {source: s}) for s in range(n))
    columns = tuple(Column(name=f"model {t}", metric="robust_acc", where={TARGET: t}) for t in range(n))
    return TableSpec(title=spec.title, notes=spec.notes, source=spec.source, rows=rows, columns=columns)


def value(metric: str, lines: Sequence[Sequence[Images]], label: str) -> Value:
    """lines: as `places` lists them, clean passes for CLEAN, `counting_all` for ALL. Raises BenchError where they are not of
    the same images."""
    m, metric = _matrix(lines, label), ALL.get(metric, metric)
    if metric in OWNED:
        return _over_images(m.right.reshape(-1, m.right.shape[2]))
    if metric not in PAIRS:
        return _over_images(m.right[0])
    accuracy, own = m.accuracy, np.eye(len(m.right), dtype=bool)
    check(accuracy)
    if metric == "whole_set_acc":
        return _over_images(m.right.reshape(-1, m.right.shape[2]))
    if metric == "whitebox_acc":
        return _over_images(m.right[own])
    if metric == "blackbox_acc":
        found = _over_images(m.right[~own])
        return replace(found, shown=_spread(accuracy[~own]))
    if metric == "blackbox_acc_clean":
        of_right = (accuracy / m.clean.mean(1))[~own]
        return Value(float(of_right.mean()), m.clean.shape[1], float("nan"), float("nan"), _spread(of_right))
    s, t = np.unravel_index(np.where(own, np.inf, accuracy).argmin(), accuracy.shape)
    found = share(int(m.right[s, t].sum()), m.right.shape[2])
    return replace(found, shown=f"{found.value:.1f} ({s} on {t})")


def summary(accuracy: np.ndarray) -> str:
    """A line for a matrix (n, n) in percent."""
    own = np.eye(len(accuracy), dtype=bool)
    check(accuracy)
    s, t = np.unravel_index(np.where(own, np.inf, accuracy).argmin(), accuracy.shape)
    n, black, white, whole = len(accuracy), accuracy[~own], accuracy[own].mean(), accuracy.mean()
    return (
        f"Black-box (source other than target) {_spread(black)}, population standard deviation over {len(black)} pairs; the "
        f"lowest pair {accuracy[s, t]:.1f} ({s} on {t}). White-box {white:.1f}. Whole set {whole:.1f}, what a user keeps whose "
        f"model and attacker's model are drawn at random: {n} x {whole:.1f} = {white:.1f} + {n - 1} x {black.mean():.1f}."
    )


def notes(values: Sequence[Sequence[Value | None]]) -> list[str]:
    """Below a matrix table: what it comes to, where no entry is missing, and what the numbers of a set count."""
    known = [value.value for line in values for value in line if value is not None]
    n = len(values)
    if n > 1 and len(known) == n * n and all(len(line) == n for line in values):
        return [summary(np.array(known).reshape(n, n)), NOTE]
    return [NOTE] if n else []


def check(accuracy: np.ndarray) -> None:
    """n * whole = white-box + (n - 1) * black-box: a matrix with a hole or a cell twice would break it."""
    n, own = len(accuracy), np.eye(len(accuracy), dtype=bool)
    gap = n * accuracy.mean() - accuracy[own].mean() - (n - 1) * accuracy[~own].mean()
    if accuracy.shape != (n, n) or not abs(gap) < 1e-6:
        raise BenchError(f"a transfer matrix of shape {accuracy.shape} misses its identity by {gap:.2g}: a bug")


def _matrix(lines: Sequence[Sequence[Images]], label: str) -> Matrix:
    samples = {tuple(each.sample.tolist()) for line in lines for each in line}
    if len(samples) != 1:
        raise BenchError(f"{label}: the cells of the set are not of the same images; run all with one `samples`")
    right = np.array([[each.robust for each in line] for line in lines], dtype=bool)
    return Matrix(right, np.array([each.clean for each in lines[0]], dtype=bool))


def _over_images(right: np.ndarray) -> Value:
    """(P, N) bool -> percent over all, its interval over images: each is in every one of the P cells."""
    found = mean(100 * right.mean(0))
    if found.low == found.high:  # every image alike: no spread to take an interval from
        return share(round(found.value * found.n / 100), found.n)
    return Value(found.value, found.n, max(found.low, 0.0), min(found.high, 100.0))


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.1f} ± {values.std():.1f}"
