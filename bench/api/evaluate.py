"""bench.evaluate: one cell from objects in memory or from names of YAMLs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.torch import save_file
from torch import nn

from bench.assemble import accuracy_check
from bench.config import grid, places
from bench.config.overrides import quoted
from bench.core.errors import BenchError
from bench.data.arrays import OwnArrays, checked
from bench.models.own import wrapped
from bench.models.split import Split
from bench.report.values import Value, share_of
from bench.run import cell as cells
from bench.run.progress import Line
from bench.store.records import Cell

NORMS = ("linf", "l2", "l1")


@dataclass(frozen=True, repr=False)
class Result:
    """One cell's records. `frame` has a row a sample: see `defence-bench records --columns`."""

    command: str  # of the cell; the model and data stand in it by their sha256 where they are objects
    key: str
    frame: pd.DataFrame
    ledger: dict[str, int]  # network rows by purpose

    @property
    def clean_accuracy(self) -> Value:
        """Percent with Wilson's 95% interval."""
        return share_of(self.frame["clean"].to_numpy())

    @property
    def accuracy(self) -> Value:
        """Percent of all images that are right when clean and not fooled, with Wilson's 95% interval."""
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
        return (
            f"clean {clean.value:.1f} [{clean.low:.1f}, {clean.high:.1f}], robust {robust.value:.1f} [{robust.low:.1f}, "
            f"{robust.high:.1f}] percent of {len(self.frame)} images; {self.ledger.get('attack', 0)} queries; cell {self.key}"
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
    places.importable()
    typed = [f"attack={attack}", *_threat(threat), f"threat.queries={queries}", f"samples={quoted(samples)}"]
    typed += _defense(defense) + ([f"store={quoted(str(store))}"] if store is not None else [])
    given = arrays = None
    if not isinstance(data, str):
        arrays = _arrays(data, classes)
        shape, n = list(arrays.images.shape[1:]), classes or int(arrays.labels.max()) + 1
        if not isinstance(model, str) and classes is None:
            n = wrapped(model, shape).head.out_features
        typed += ["dataset=arrays", "dataset.root=null", f"dataset.classes={n}", f"dataset.shape={quoted(shape)}"]
        typed.append(f"dataset.source.files.test={arrays.digest()}.safetensors")
    else:
        typed.append(f"dataset={data}")
    if isinstance(model, str):
        typed.append(f"model={model}")
    else:
        typed += ["model=mine", "model.build._target_=bench.api.evaluate.given"]
        shape = arrays.images.shape[1:] if arrays is not None else _one([*typed, *words]).spec.dataset.shape
        given = wrapped(model, shape)
        typed.append(f"+model.build.sha256={accuracy_check.digest(given)}")
        typed.append(f"+model.build.network={quoted(type(model).__name__)}")
    one = _one([*typed, *words])
    return _run(one, given, arrays)


def given(sha256: str, network: str) -> nn.Module:
    """Stands in configs for a network that was an object of a session; it is nowhere else."""
    raise BenchError(
        f"the network {network} (sha256 {sha256[:12]}) was an object given to bench.evaluate; for more than that (replayed or "
        "transferred images, the command line) save its state dict: model=mine model.build._target_=… model.own.file=…"
    )


def _run(one: grid.GridCell, network: Split | None, arrays: OwnArrays | None) -> Result:
    spec, runtime = one.spec, one.runtime
    if arrays is not None:  # a copy in the artifacts, by content: the cell can be read and gone on with later
        folder = Path(runtime.artifacts) / "given"
        file = folder / f"{arrays.digest()}.safetensors"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            save_file({"images": arrays.images, "labels": arrays.labels}, file)
        spec = spec.replace(dataset=spec.dataset.model_copy(update={"root": str(folder)}))
    cells.execute(spec, runtime, Line("evaluate"), one.command, network)
    cell = Cell(runtime.store, one.key)
    frame = cell.frame().sort_values("position", ignore_index=True)
    if spec.samples.n is not None:
        frame = frame[frame["position"] < spec.samples.n]
    return Result(one.command, one.key, frame, cell.ledger())  # pyright: ignore[reportArgumentType]


def _one(typed: Sequence[str]) -> grid.GridCell:
    found = grid.cells(typed)
    if len(found) != 1:
        raise BenchError(f"bench.evaluate runs one cell, not {len(found)}; use the command line for a grid")
    return found[0]


def _arrays(data: tuple[Any, Any], classes: int | None) -> OwnArrays:
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise BenchError(f"data is a {type(data).__name__}; give (x, y), or the name of a YAML of conf/dataset")
    return checked(data[0], data[1], classes or 2**31, "data")


def _threat(text: str) -> list[str]:
    norm, _, eps = text.strip().partition(" ")
    if not eps:
        return [f"threat={norm}"]
    if norm not in NORMS:
        raise BenchError(f"threat={text!r}: write `<norm> <eps>` with norm {', '.join(NORMS)}, or the name of a YAML")
    return [f"threat.norm={norm}", f"threat.eps={quoted(eps.strip())}"]


def _defense(defense: str | type | None) -> list[str]:
    if defense is None or isinstance(defense, str):
        return [f"defense={defense or 'none'}"]
    return ["defense=none", "~defense.version", f"defense._target_={defense.__module__}.{defense.__qualname__}"]
