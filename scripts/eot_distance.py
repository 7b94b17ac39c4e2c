"""The adversarial-transformation paper's average of || x - E g(x) ||_inf over images (Table 1, last row) and its Fig. 4.

    python scripts/eot_distance.py dataset=cifar10_jpeg model=vgg_fb_adv model@f_b.model=vgg_fb_adv
        [images=100] [draws=5000] [numerics.rows=20]
        [out=results/figures/eot_distance] [any override of conf/bench.yaml, such as defense.delta=0.1]

Prints the average, and what it is with half of the draws (how far the mean has settled). With `out` it draws the first images,
their E g(x) and x - E g(x) as <out>.svg and .png. g is f_b's alone: any model of the data set will do as f_a. numerics.rows:
rows of a network call; with fewer images than that, copies fill it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.assemble import networks
from bench.assemble.networks import build_victim
from bench.config import grid
from bench.config.specs import CellSpec
from bench.core.device import device_of
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.data.samples import load
from bench.report.figures import style
from defenses.transformation import Transformation

SHOWN = 3  # images in the figure, as in the paper
OPTIONS = ("images=", "draws=", "out=")


def means(defense: Transformation, x: Tensor, number: Tensor, seed: int, draws: int) -> tuple[Tensor, Tensor]:
    """x (B,C,H,W) -> the mean of g(x) over `draws` random starts, and over the first half of them; (B,C,H,W) each. number (B,):
    the sample numbers, of which alone, the seed and the draw the starts depend on."""
    total, half = torch.zeros_like(x), x
    for nth in range(draws):
        total += defense.moved(x, Draw(seed, number, torch.full_like(number, nth), Stream.DEFENCE), "exact")
        if nth + 1 == max(draws // 2, 1):
            half = total / (nth + 1)
    return total / draws, half


def distances(x: Tensor, mean: Tensor) -> Tensor:
    """(B,): || x - E g(x) ||_inf on the [0, 1] pixel scale."""
    return (x - mean).flatten(1).abs().amax(1)


def draw(x: Tensor, mean: Tensor, delta: float, title: str, stem: Path) -> list[Path]:
    """A row an image: x, E g(x), and x - E g(x) with grey for 0, black and white for -delta and delta."""
    with style.drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.8, 1.7 * len(x)), layout="constrained")
        panels = figure.subplots(len(x), 3, squeeze=False)
        for axes, image, moved, far in zip(panels, x, mean, distances(x, mean), strict=True):
            seen = {"x": image, "E g(x)": moved, f"x - E g(x): {far:.3f}": 0.5 + (image - moved) / (2 * delta)}
            for panel, (name, picture) in zip(axes, seen.items(), strict=True):
                pixels = picture.clamp(0, 1).permute(1, 2, 0).expand(-1, -1, 3).cpu().numpy()
                panel.imshow(pixels, interpolation="nearest")
                panel.set_title(name, fontsize=8)
                panel.set_axis_off()
        figure.suptitle(title, x=0.01, ha="left")
        return style.save_figure(figure, stem)


def main(typed: Sequence[str]) -> str:
    """What to print. Raises BenchError for settings that make no sense."""
    options = dict(each.split("=", 1) for each in typed if each.startswith(OPTIONS))
    overrides = [each for each in typed if not each.startswith(OPTIONS)]
    if not any(each.startswith("defense=") for each in overrides):
        overrides = ["defense=transformation", *overrides]
    (cell, *more) = grid.cells(overrides)
    if more:
        raise BenchError(
            f"the overrides describe {len(more) + 1} cells; a distance is of one: give every axis one value"
        )
    config, device = cell.config, device_of(cell.runtime.device)
    images, draws = int(options.get("images", 100)), int(options.get("draws", 5000))
    spec = CellSpec.parse(config)
    test = load(spec.dataset, spec.samples, device)
    if not 1 <= images <= len(test) or draws < 1:
        raise BenchError(
            f"images={images} must lie between 1 and the data set's {len(test)}, draws={draws} be at least 1"
        )
    network, _ = networks.deployed(spec, test, Path(config["artifacts"]))
    defense = build_victim(spec, network, test, Path(config["artifacts"])).defense
    if not isinstance(defense, Transformation):
        raise BenchError(f"{type(defense).__name__} transforms nothing; set defense=transformation")
    positions = list(range(images))
    x = test.images(positions)
    whole, half = means(defense, x, test.numbers(positions), config["seed"], draws)
    settled, before = (float(distances(x, mean).mean()) for mean in (whole, half))
    said = (
        f"|| x - E g(x) ||_inf: {settled:.3f} over {images} images and {draws} draws ({before:.3f} with half of them)"
    )
    if "out" in options:
        delta = defense.transform.delta
        title = f"EOT difference images, {cell.choices['dataset']}, delta {delta:g}, {draws} draws"
        paths = draw(x[:SHOWN], whole[:SHOWN], delta, title, Path(options["out"]))
        said += "".join(f"\n{path}" for path in paths)
    return said


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except BenchError as error:
        sys.exit(f"error: {error}")
