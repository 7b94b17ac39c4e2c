"""The plane of flows that FGR's Figures 1 and 7 look at: across, an attack's flow; upwards, a random one of the same length.

Each image has its own two directions. (1, 0) is the attack's result, (0, 0) the image itself. The random direction is a standard
normal draw for every pixel and both coordinates, from the seed and the sample.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from attacks.base import Rows
from bench.assemble import networks
from bench.assemble.attack import build_attack, oracle_of
from bench.assemble.networks import build_victim
from bench.config import grid
from bench.core.device import device_of
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys, normal
from bench.core.warp import warp
from bench.data.samples import Samples, load
from bench.report.figures import style

ACROSS = 4  # panels side by side
NUMBERS = {"images": 20, "points": 21, "reach": 2.0}  # reach: how far the axes go, in units of the two directions


class Plane(NamedTuple):
    """B images and their two directions."""

    x: Tensor  # (B,C,H,W) in [0, 1]
    y: Tensor  # (B,)
    attack: Tensor  # (B,H,W,2) in pixels
    random: Tensor  # (B,H,W,2) in pixels, as long as `attack`

    def flow(self, a: float, b: float) -> Tensor:
        """(B,H,W,2)"""
        return a * self.attack + b * self.random

    def image(self, a: float, b: float) -> Tensor:
        """(B,C,H,W)"""
        return warp(self.x, self.flow(a, b))


class Scene(NamedTuple):
    """One cell's network and the samples that it is asked about."""

    cell: grid.GridCell
    network: Any
    test: Samples


def scenes(typed: Sequence[str]) -> dict[str, Scene]:
    """A scene a cell of the overrides, by the name of its recipe, with the model's where several models are typed."""
    cells = grid.cells(typed)
    several = len({cell.choices["model"] for cell in cells}) > 1
    found: dict[str, Scene] = {}
    for cell in cells:
        name = ", ".join(cell.choices[group] for group in (("model", "recipe") if several else ("recipe",)))
        if name in found:
            raise BenchError(
                f"the overrides describe {len(cells)} cells, two of them {name}; sweep recipe= and model= alone"
            )
        device = device_of(cell.runtime.device)
        test = load(cell.spec.dataset, cell.spec.samples, device)
        network, _ = networks.deployed(cell.spec, test, cell.runtime.artifacts)
        found[name] = Scene(cell, network, test)
    return found


def span(scene: Scene, positions: list[int]) -> Plane:
    """The plane at these samples. Raises BenchError for attacks that have no flow, or that move an image by none."""
    cell, network, test = scene
    spec, store = cell.spec, cell.runtime.artifacts
    x, y, number = test.images(positions), test.labels(positions), test.numbers(positions)
    attack = build_attack(spec, network, test, store)
    if not hasattr(attack, "flow"):
        raise BenchError(f"{type(attack).__name__} has no flow to show; set attack=flow_pgd or attack=stadv")
    victim = build_victim(spec, network, test, store)
    rows = Rows(number, y, torch.full_like(y, -1), keys(spec.seed, Stream.ATTACK, number))
    found = attack.flow(oracle_of(attack, victim), x, rows).detach()
    length = found.flatten(1).norm(dim=1)
    if not bool((length > 0).all()):
        at = positions[int(length.argmin())]
        raise BenchError(f"the attack does not move image {at}, so it gives no direction; choose other images")
    drawn = normal(keys(spec.seed, Stream.TARGET, number), *x.shape[2:], 2)
    return Plane(x, y, found, drawn * (length / drawn.flatten(1).norm(dim=1)).view(-1, 1, 1, 1))


def right_everywhere(found: Mapping[str, Scene], images: int) -> list[int]:
    """The first so many samples that every network gets right: an attack moves no image that is wrong already."""
    kept: list[int] = []
    test = next(iter(found.values())).test
    for start in range(0, len(test), 100):
        some = list(range(start, min(start + 100, len(test))))
        with torch.no_grad():
            right = [scene.network(test.images(some)).argmax(1) == test.labels(some) for scene in found.values()]
        kept += [p for p, all_right in zip(some, torch.stack(right).all(0).tolist(), strict=True) if all_right]
        if len(kept) >= images:
            return kept[:images]
    raise BenchError(f"images={images}, but only {len(kept)} of {len(test)} are right for every network")


def surface(value: Callable[[float, float], float], axis: np.ndarray) -> np.ndarray:
    """(P,P): value(a, b), a row for each b."""
    return np.array([[value(float(a), float(b)) for a in axis] for b in axis])


def axis(points: int, reach: float) -> np.ndarray:
    """(P,) from -reach to reach, as many on either side of 0."""
    if points < 3 or points % 2 == 0 or not reach > 0:
        raise BenchError(f"points={points} must be odd and at least 3, so that 0 is one, and reach={reach} positive")
    return np.linspace(-reach, reach, points)


def options(typed: Sequence[str], name: str) -> tuple[dict[str, float], Path, list[str]]:
    """-> the script's own numbers, where it writes, and the overrides of conf/bench.yaml."""
    own = dict(each.split("=", 1) for each in typed if each.split("=", 1)[0] in {*NUMBERS, "out"} and "=" in each)
    rest = [each for each in typed if each.split("=", 1)[0] not in {*NUMBERS, "out"}]
    stem = Path(own.pop("out", "") or style.default_stem(typed, name))
    try:
        numbers = NUMBERS | {name: type(NUMBERS[name])(value) for name, value in own.items()}
    except ValueError:
        raise BenchError(
            f"{', '.join(f'{k}={v}' for k, v in own.items())}: images and points are whole numbers"
        ) from None
    if not any(each.startswith("attack=") for each in rest):
        rest = ["attack=flow_pgd", *rest]
    if not any(each.startswith("threat=") for each in rest):
        rest = ["threat=flow_0.465px", *rest]
    return numbers, stem, rest


def panels(surfaces: Mapping[str, np.ndarray], places: np.ndarray, title: str, unit: str, shared: bool) -> Any:
    """Filled contours, four side by side; shared: one scale of colours for all, once."""
    from matplotlib.figure import Figure

    across = min(len(surfaces), ACROSS)
    down = -(-len(surfaces) // across)
    figure = Figure(figsize=(3.3 * across + 0.6, 3.4 * down), layout="constrained")
    whole = np.stack(list(surfaces.values()))
    panes = figure.subplots(down, across, squeeze=False).ravel()
    drawn = None
    for axes, (name, heights) in zip(panes, surfaces.items(), strict=False):
        low, high = (whole.min(), whole.max()) if shared else (heights.min(), heights.max())
        levels = np.linspace(low, max(high, low + 1e-9), 15)
        drawn = axes.contourf(places, places, heights, levels, cmap="cividis")
        axes.plot([0, 1], [0, 0], "o", color="white", mec="black", ms=4)  # the image and the attack's result
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("attack's flow")
        axes.set_ylabel("random flow")
        axes.grid(False)
        if not shared:
            figure.colorbar(drawn, ax=axes, label=unit, format="%.2g")
    for axes in panes[len(surfaces) :]:
        axes.set_axis_off()
    if shared and drawn is not None:
        figure.colorbar(drawn, ax=list(panes), label=unit, format="%.2g")
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def table(surfaces: Mapping[str, np.ndarray], places: np.ndarray) -> str:
    """CSV: name, attack, random, value."""
    whole = io.StringIO()
    out = csv.writer(whole, lineterminator="\n")
    out.writerow(["name", "attack", "random", "value"])
    for name, heights in surfaces.items():
        for b, line in zip(places, heights, strict=True):
            out.writerows([name, f"{a:.4g}", f"{b:.4g}", f"{value:.6g}"] for a, value in zip(places, line, strict=True))
    return whole.getvalue()
