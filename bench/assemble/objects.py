"""Objects of a session, a network and images, as words of a config: by content, so that their cells are found again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from bench.assemble import accuracy_check
from bench.config import grid, places
from bench.config.overrides import quoted
from bench.core.errors import BenchError
from bench.core.place import on_disk
from bench.data.arrays import OwnArrays, checked
from bench.models.own import wrapped
from bench.models.split import Split

NORMS = ("linf", "l2", "l1")


@dataclass(frozen=True)
class Objects:
    """words: overrides of a cell, all but its attack's. given: the network, where it was an object."""

    words: tuple[str, ...]
    given: Split | None


def of(
    model: nn.Module | str,
    data: tuple[Any, Any] | str,
    defense: str | type | None,
    threat: str,
    samples: int | None,
    store: str | Path | None,
    classes: int | None,
    words: Sequence[str],
) -> Objects:
    """As `bench.evaluate` takes them. The images are copied below the artifacts, so that a cell can be read and gone on with
    later. Raises BenchError in one line."""
    places.importable()
    typed = [*_threat(threat), f"samples={quoted(samples)}", *_defense(defense)]
    typed += [f"store={quoted(str(store))}"] if store is not None else []
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
        shape = arrays.images.shape[1:] if arrays is not None else one([*typed, *words]).spec.dataset.shape
        given = wrapped(model, shape)
        typed.append(f"+model.build.sha256={accuracy_check.digest(given)}")
        typed.append(f"+model.build.network={quoted(type(model).__name__)}")
    if arrays is not None:
        folder = _kept(arrays, on_disk(one([*typed, *words]).runtime.artifacts) / "given")
        typed = [word for word in typed if word != "dataset.root=null"] + [f"dataset.root={quoted(str(folder))}"]
    return Objects((*typed, *words), given)


def one(typed: Sequence[str]) -> grid.GridCell:
    found = grid.cells(typed)
    if len(found) != 1:
        raise BenchError(f"these words name {len(found)} cells, not one; use the command line for a grid")
    return found[0]


def _kept(arrays: OwnArrays, folder: Path) -> Path:
    file = folder / f"{arrays.digest()}.safetensors"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"images": arrays.images, "labels": arrays.labels}, file)
    return folder


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
