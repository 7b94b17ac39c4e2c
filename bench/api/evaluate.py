"""bench.evaluate: one cell from objects in memory or from names of YAMLs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from bench.assemble import objects as session
from bench.core.errors import BenchError
from bench.report.values import Value, share_of
from bench.run import cell as cells
from bench.run.progress import Line
from bench.store.records import Cell


@dataclass(frozen=True, repr=False)
class Result:
    """One cell's records. `frame` has a row a sample: see `defence-bench records --columns`."""

    command: str  # of the cell; the model and data stand in it by their sha256 where they are objects
    key: str
    frame: pd.DataFrame
    ledger: dict[str, int]  # network rows by purpose, of all images that the cell holds, also those beyond `samples`

    @property
    def clean_accuracy(self) -> Value:
        """Percent with Wilson's 95% interval."""
        return share_of(self.frame["clean"].to_numpy())

    @property
    def accuracy(self) -> Value:
        """Percent of all images that are correctly classified and not fooled, with Wilson's 95% interval."""
        return share_of(self._robust)

    @property
    def _robust(self) -> np.ndarray:
        return (self.frame["clean"] & ~self.frame["fooled"]).to_numpy()

    def curve(self) -> pd.DataFrame:
        """Robust accuracy (percent) by the number of queries; of a white-box attack two points only."""
        broken = self.frame[self.frame["clean"] & self.frame["fooled"]]
        at = np.sort(broken["queries"].fillna(0).to_numpy(dtype=np.int64))  # pyright: ignore[reportAttributeAccessIssue]
        left = int(self.frame["clean"].sum()) - np.arange(len(at) + 1)  # pyright: ignore[reportArgumentType]
        points = pd.DataFrame({"queries": [0, *at.tolist()], "accuracy": 100 * left / len(self.frame)})
        return points.groupby("queries", as_index=False).last()

    def __repr__(self) -> str:
        clean, robust = self.clean_accuracy, self.accuracy
        queries = int(np.nansum(self.frame["queries"].to_numpy(dtype=float)))
        return (
            f"clean {clean.value:.1f} [{clean.low:.1f}, {clean.high:.1f}], robust {robust.value:.1f} [{robust.low:.1f}, "
            f"{robust.high:.1f}] percent of {len(self.frame)} images; {queries} queries; cell {self.key}"
        )

    def show(self) -> str:
        """A line for people; printed, too."""
        print(self)
        return repr(self)

    def _repr_html_(self) -> str:
        rows = {"clean": self.clean_accuracy, "robust": self.accuracy}
        cells = "".join(
            f"<tr><th>{k}</th><td>{v.value:.1f} [{v.low:.1f}, {v.high:.1f}]</td></tr>" for k, v in rows.items()
        )
        return f"<table>{cells}</table>"


def evaluate(
    model: nn.Module | str,
    data: tuple[Any, Any] | str,
    attack: str = "square",
    defense: str | type | None = None,
    threat: str = "linf 8/255",
    queries: int = 1000,
    samples: int | None = None,
    store: str | Path | None = None,
    *,
    classes: int | None = None,
    words: Sequence[str] = (),
) -> Result:
    """Runs one cell, or reads it where it is stored.

    model: a torch module that takes (B, C, H, W) in [0, 1] and answers logits (B, K), or the name of a YAML of conf/model.
    data: (x, y), arrays or tensors, x (N, C, H, W) uint8 or floats in [0, 1], y (N,) whole numbers; or a YAML of conf/dataset.
    attack, defense: names of YAMLs; defense may also be a class that can be imported (defenses.base.Defense).
    threat: `<norm> <eps>` with norm linf, l2 or l1 and eps on the [0, 1] pixel scale, or the name of a YAML.
    queries: a sample's budget. samples: how many, in seeded order; None: all. store: a folder; None: the default store.
    words: more overrides, as on the command line (`attack.steps=50`). Raises BenchError in one line.
    """
    typed = [f"attack={attack}", f"threat.queries={queries}", *words]
    objects = session.of(model, data, defense, threat, samples, store, classes, typed)
    one = session.one(objects.words)
    cells.execute(one.spec, one.runtime, Line("evaluate"), one.command, objects.given)
    cell = Cell(one.runtime.store, one.key)
    frame = cell.frame().sort_values("position", ignore_index=True)
    if one.spec.samples.n is not None:
        frame = frame[frame["position"] < one.spec.samples.n]
    if not cell.complete(one.spec.samples.n):
        part = "/".join(map(str, one.runtime.shard))
        raise BenchError(f"shard={part} is done, {len(frame)} images of the cell are there; run its other parts, too")
    return Result(one.command, one.key, frame, cell.ledger())  # pyright: ignore[reportArgumentType]


def given(sha256: str, network: str) -> nn.Module:
    """Stands in configs for a network that was an object of a session; it is nowhere else."""
    raise BenchError(
        f"the network {network} (sha256 {sha256[:12]}) was an object given to bench.evaluate or bench.audit; for the command "
        "line save its state dict: model=mine model.build._target_=… model.own.file=…"
    )
