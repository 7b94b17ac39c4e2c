"""FGR's Figure 7: the cross-entropy over the plane of an attack's flow and a random one, a panel a defence.

    python -m scripts.loss_surface dataset=mnist_parquet model=vgg11_small \\
        recipe=standard_mnist_small,igr_mnist_small,fgr_mnist_small \\
        [images=20] [points=21] [reach=2] [out=<store>/figures/loss_surface] [any override of conf/bench.yaml]

`recipe=` and `model=` may list several. Each network is attacked for itself, at the same images, which all of them get right; the
random flow is the same for all up to its length. All panels have one scale of colours. Writes <out>.svg, .png and .csv. The
attack is flow PGD within flow_0.465px where no other is typed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.report.figures import style
from bench.report.formats.write import save
from scripts import flow_plane
from scripts.flow_plane import Plane


def losses(network: Any, plane: Plane, places: np.ndarray) -> np.ndarray:
    """(P,P): the mean cross-entropy of the images, a row for each place along the random flow."""

    @torch.no_grad()
    def cross_entropy(a: float, b: float) -> float:
        return F.cross_entropy(network(plane.image(a, b)), plane.y).item()

    return flow_plane.surface(cross_entropy, places)


def main(typed: Sequence[str]) -> list[Path]:
    numbers, stem, overrides = flow_plane.options(typed, "loss_surface")
    places, found = flow_plane.axis(int(numbers["points"]), numbers["reach"]), flow_plane.scenes(overrides)
    images = int(numbers["images"])
    positions = flow_plane.right_everywhere(found, images)
    surfaces = {name: losses(scene.network, flow_plane.span(scene, positions), places) for name, scene in found.items()}
    with style.drawing():
        drawn = flow_plane.panels(surfaces, places, f"Cross-entropy, n={images}", "cross-entropy", shared=True)
        paths = style.save_figure(drawn, stem)
    csv = save(stem.with_name(f"{stem.name}.csv"), flow_plane.table(surfaces, places).encode("utf-8"))
    return [*paths, csv]


if __name__ == "__main__":
    try:
        print("\n".join(map(str, main(sys.argv[1:]))))
    except BenchError as error:
        sys.exit(f"error: {error}")
