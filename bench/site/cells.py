"""A stored cell as a page shows it: settings in words, provenance, numbers, pictures' numbers, samples. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.report.figures import margin_trace
from bench.report.values import Value, share_of
from bench.site import charts, words
from bench.store.records import Cell
from bench.store.schema import LEDGER, OF_A_RECORD
from bench.store.trace import TRACE_AT

STANDS, BROKEN, WRONG, UNDEFINED = "stands", "broken", "wrong when clean", "undefined"
# a sample's columns on its page: stored name -> (head, digits)
SHOWN = {
    "queries": ("queries", 0), "first_any": ("first hit", 0), "margin": ("margin", 3), "linf": ("linf", 4), "l2": ("l2", 3),
    "l1": ("l1", 2), "flow": ("flow, px", 3), "re_evaluation_success": ("fools again", 2), "restart": ("restart", 0),
    "passes_fwd": ("forward", 0), "passes_bwd": ("backward", 0),
}  # fmt: skip
ROWS = tuple(f"rows_{purpose}" for purpose in OF_A_RECORD)
READ = ("sample", "position", "label", "clean", "fooled", "undefined", "trace", "logits", "seconds", *SHOWN, *ROWS)
AT = (1, 10, 100, 1000, 2500, 5000, 10_000)


@dataclass(frozen=True)
class CellPage:
    """samples: rows of `columns`. curve: (queries, percent). charts: title -> Vega-Lite. sample (N,) int64 and stands (N,) bool:
    correctly classified and not fooled."""

    store: Path
    key: str
    name: str
    experiment: str
    data: str
    network: str
    defence: str
    attack: str
    threat: str
    queries: int | None
    n: int
    clean: Value
    robust: Value | None
    again: Value | None  # robust where the found image fools in most re-evaluations, of random victims
    settings: tuple[tuple[str, str], ...]
    made: tuple[tuple[str, str], ...]
    command: str
    anytime: bool
    curve: tuple[tuple[int, float], ...]
    charts: dict[str, dict[str, Any]]
    columns: tuple[str, ...]
    samples: tuple[tuple[Any, ...], ...]
    sample: np.ndarray
    stands: np.ndarray

    @property
    def attacked(self) -> bool:
        return self.robust is not None

    @property
    def ladder(self) -> list[tuple[int, float]]:
        """The curve at round numbers of queries, for those who can't see a picture."""
        budget = self.curve[-1][0] if self.curve else 0
        at = [each for each in AT if each < (self.queries or budget)] + [self.queries or budget]
        return [(each, [r for q, r in self.curve if q <= each][-1]) for each in at]


def read(store: Path, key: str, experiment: str = "") -> CellPage:
    """Raises BenchError where the cell is damaged."""
    cell = Cell(store, key)
    about, frame = cell.made(), cell.frame(list(READ))
    config = about["config"]
    attacked = config.get("threat") is not None
    clean, fooled = _flags(frame, "clean"), _flags(frame, "fooled")
    stands, asked = clean & ~fooled, words.queries(config)
    again = _numbers(frame, "re_evaluation_success")
    kept = clean & ~np.where(np.isnan(again), fooled, again > 0.5)
    curve = _curve(frame, clean, fooled) if asked else ()
    columns, samples = _samples(frame, attacked)
    return CellPage(
        store=store,
        key=key,
        name=_name(config),
        experiment=experiment or _experiment(about),
        data=words.dataset(config),
        network=words.model(config),
        defence=words.defence(config),
        attack=words.attack(config),
        threat=words.threat(config),
        queries=asked,
        n=len(frame),
        clean=share_of(clean),
        robust=share_of(stands) if attacked else None,
        again=share_of(kept) if attacked and not np.isnan(again).all() else None,
        settings=tuple(words.of_config(config)),
        made=tuple(_made(about, frame, _ledger(cell, about, frame))),
        command=_command(about),
        anytime=bool(about.get("anytime")),
        curve=curve,
        charts=_charts(frame, curve, asked, attacked),
        columns=columns,
        samples=samples,
        sample=frame["sample"].to_numpy(np.int64),
        stands=stands,
    )


def _name(config: Mapping[str, Any]) -> str:
    asked, defence = words.queries(config), words.defence(config)
    attack = words.attack(config) + (f", {asked:,} queries" if asked else "")
    behind = "" if defence == "none" else f" behind {defence}"
    return f"{attack} on {words.model(config)}{behind}, {words.dataset(config)}"


def _command(about: Mapping[str, Any]) -> str:
    """Without the place where its maker put the records."""
    return " ".join(word for word in str(about.get("command", "")).split(" ") if not word.startswith("store="))


def _experiment(about: Mapping[str, Any]) -> str:
    found = [word for word in str(about.get("command", "")).split() if word.lstrip("+").startswith("experiment=")]
    return found[0].partition("=")[2] if found else ""


def _ledger(cell: Cell, about: Mapping[str, Any], frame: pd.DataFrame) -> dict[str, int]:
    """Cell.ledger, without a second reading where the cell is one piece."""
    if len(cell.parts()) > 1:
        return cell.ledger()
    own = {name: int(np.nansum(_numbers(frame, row))) for name, row in zip(OF_A_RECORD, ROWS, strict=True)}
    return {name: own.get(name, 0) + int(about["ledger"].get(name, 0)) for name in LEDGER}


def _made(about: Mapping[str, Any], frame: pd.DataFrame, ledger: Mapping[str, int]) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {version}" for name, version in (about.get("versions") or {}).items())
    threads = about.get("threads")
    device = " ".join(str(about[name]) for name in ("device", "cpu") if about.get(name))
    seconds = _numbers(frame, "seconds")
    known = seconds[np.isfinite(seconds)]
    rows = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in ledger.items() if count)
    found = {
        "Commit": about.get("commit"), "Versions": versions,
        "Device": f"{device}, {threads} thread{'s' * (threads != 1)}" if threads else device,
        "Time": f"{np.median(known):.3g} s a sample (median), from start to end" if len(known) else "",
        "Data, sha256": about.get("data"), "Weights, sha256": about.get("weights"), "Network rows": rows,
    }  # fmt: skip
    return [(name, str(value)) for name, value in found.items() if value]


def _curve(frame: pd.DataFrame, clean: np.ndarray, fooled: np.ndarray) -> tuple[tuple[int, float], ...]:
    """As bench.api.evaluate.Result.curve: percent of all images that stand after so many queries."""
    at = np.sort(_numbers(frame, "queries")[clean & fooled])
    places, counts = np.unique(np.nan_to_num(at).astype(int), return_counts=True)
    left = int(clean.sum()) - np.concatenate([[0], np.cumsum(counts)])
    steps = zip([0, *places.tolist()], (100 * left / max(len(frame), 1)).tolist(), strict=True)
    return tuple(dict(steps).items())


def _charts(
    frame: pd.DataFrame, curve: Sequence[tuple[int, float]], asked: int | None, attacked: bool
) -> dict[str, dict[str, Any]]:
    if not attacked:
        return {}
    found: dict[str, dict[str, Any]] = {}
    clean = _flags(frame, "clean")
    broken, right = frame.loc[clean & _flags(frame, "fooled")], frame.loc[clean]
    if asked and curve:
        found["Robust accuracy against queries"] = charts.curve(curve, asked)
    traces = [each for each in right["trace"] if each is not None and len(each) == len(TRACE_AT)]
    if asked and traces and len(traces) == len(right):
        whole = not np.isnan(np.array(traces, float)[:, ~np.isnan(np.array(traces, float)).all(axis=0)]).any()
        if whole:
            found["Margin against queries"] = charts.trace(*margin_trace.curve(frame, len(frame)))
    names = {
        "queries": "queries to success",
        "linf": "linf distance",
        "l2": "l2 distance",
        "flow": "mean displacement, pixels",
    }
    for name, title in names.items():
        numbers = _numbers(broken, name)
        if _spread(numbers) and (name != "queries" or asked):
            found[f"Distribution: {title}"] = charts.histogram(numbers, title, log=name == "queries")
    margins = _numbers(right, "margin")
    if _spread(margins):
        found["Distribution: lowest margin"] = charts.histogram(margins, "lowest margin that the attacker saw")
    return found


def _numbers(frame: pd.DataFrame, name: str) -> np.ndarray:
    """(N,) float64; a null is NaN."""
    return np.asarray(frame[name], dtype=float)


def _flags(frame: pd.DataFrame, name: str) -> np.ndarray:
    """(N,) bool; a null is False."""
    return np.asarray([each is True or each == 1 for each in frame[name].tolist()], dtype=bool)


def _spread(numbers: np.ndarray) -> bool:
    """Is there more than one value to draw a distribution of?"""
    known = numbers[np.isfinite(numbers)]
    return len(known) > 1 and float(np.ptp(known)) > 1e-3 * float(np.abs(known).max())


def _samples(frame: pd.DataFrame, attacked: bool) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    columns: dict[str, list[Any]] = {"sample": frame["sample"].tolist(), "label": frame["label"].tolist()}
    columns["outcome"] = outcomes(frame) if attacked else ["right" if c else "wrong" for c in frame["clean"]]
    if not attacked and bool(frame["logits"].notna().all()):
        columns["answer"] = [int(np.argmax(each)) for each in frame["logits"]]
    for name, (head, digits) in SHOWN.items():
        numbers = _numbers(frame, name)
        if np.isfinite(numbers).any():
            columns[head] = [_rounded(each, digits) for each in numbers.tolist()]
    return tuple(columns), tuple(zip(*columns.values(), strict=True))


def _rounded(number: float, digits: int) -> float | None:
    return None if not np.isfinite(number) else int(number) if digits == 0 else round(number, digits)


def outcomes(frame: pd.DataFrame) -> list[str]:
    """A word an image: what became of it."""
    rows = zip(*(_flags(frame, name) for name in ("clean", "fooled", "undefined")), strict=True)
    return [WRONG if not c else UNDEFINED if u else BROKEN if f else STANDS for c, f, u in rows]
