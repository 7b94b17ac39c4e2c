"""FGR's Figure 1: how far an image and its flow lie from where they began, along an attack's flow and a random one.

    python -m scripts.flow_distances dataset=mnist_parquet model=vgg11_small recipe=standard_mnist_small attack=stadv \\
        [images=20] [points=21] [reach=2] [out=<store>/figures/flow_distances] [any override of conf/bench.yaml]

Left ||x' - x||_2 in pixel values of [0, 1], right ||v - v0||_2 in pixels of displacement, the means over the images. The right
one is a cone by construction; where the left one is not, as long a flow costs more in one direction than in another. Writes
<out>.svg, .png and .csv. The attack is flow PGD within flow_0.465px where no other is typed (the paper: stAdv).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.core.errors import BenchError
from bench.report.figures import style
from bench.report.formats.write import save
from scripts import flow_plane
from scripts.flow_plane import Plane


def distances(plane: Plane, places: np.ndarray) -> dict[str, np.ndarray]:
    """(P,P) each, a row for each place along the random flow."""

    def pixels(a: float, b: float) -> float:
        return (plane.image(a, b) - plane.x).flatten(1).norm(dim=1).mean().item()

    def flow(a: float, b: float) -> float:
        return plane.flow(a, b).flatten(1).norm(dim=1).mean().item()

    return {"||x' - x||": flow_plane.surface(pixels, places), "||v - v0||": flow_plane.surface(flow, places)}


def main(typed: Sequence[str]) -> list[Path]:
    numbers, stem, overrides = flow_plane.options(typed, "flow_distances")
    places, found = flow_plane.axis(int(numbers["points"]), numbers["reach"]), flow_plane.scenes(overrides)
    if len(found) > 1:
        raise BenchError(f"the overrides describe {len(found)} networks; these distances are along one's flows")
    (name, scene), images = next(iter(found.items())), int(numbers["images"])
    surfaces = distances(flow_plane.span(scene, flow_plane.right_everywhere(found, images)), places)
    with style.drawing():
        drawn = flow_plane.panels(surfaces, places, f"Distances, {name}, n={images}", "mean l2", shared=False)
        paths = style.save_figure(drawn, stem)
    csv = save(stem.with_name(f"{stem.name}.csv"), flow_plane.table(surfaces, places).encode("utf-8"))
    return [*paths, csv]


if __name__ == "__main__":
    try:
        print("\n".join(map(str, main(sys.argv[1:]))))
    except BenchError as error:
        sys.exit(f"error: {error}")
