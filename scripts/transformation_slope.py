"""The adversarial-transformation paper's Fig. 3, right: d g_i / d x_j by central differences against the step h (equation 4).

    python scripts/transformation_slope.py dataset=cifar10_jpeg model=vgg_fb_adv model@f_b.model=vgg_fb_adv
        [image=0] [pairs=3] [out=<store>/figures/slope]
        [any override of conf/bench.yaml, such as defense.delta=0.1]

g is f_b's alone, with one random start held fixed, in float64: in float32 the smallest steps would measure rounding. j are the
first `pairs` pixels of a hashed order, i the pixel beside each (for i = j the start, x itself, adds 1). Writes <out>.svg, .png
and .csv, and prints how far the estimates of one derivative lie apart.
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.assemble import networks
from bench.assemble.networks import build_victim
from bench.config import grid
from bench.config.specs import CellSpec
from bench.core.device import device_of
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream, keys, uniform
from bench.data.samples import load
from bench.models.split import Normalise
from bench.report.figures import style
from bench.report.formats.write import save
from defenses.transformation import Transform, Transformation

STEPS = tuple(float(h) for h in np.logspace(-9, -1, 33))
OPTIONS = ("image=", "pairs=", "out=")


def slopes(transform: Transform, f_b: torch.nn.Module, x: Tensor, start: Tensor, pixels: Sequence[int]) -> Tensor:
    """x, start (C,H,W) in the dtype of f_b -> (pixels, STEPS): (g_i(x + h e_j) - g_i(x - h e_j)) / 2h, i beside
    j."""
    flat, found = x.flatten(), x.new_zeros(len(pixels), len(STEPS))
    for row, j in enumerate(pixels):
        steps = torch.tensor([sign * h for h in STEPS for sign in (1, -1)], dtype=x.dtype, device=x.device)
        moved = flat.repeat(len(steps), 1)
        moved[:, j] += steps
        images = moved.view(-1, *x.shape)
        made = transform(f_b, images, start.expand_as(images)).flatten(1)[:, beside(j, x.shape[-1])].view(-1, 2)
        found[row] = (made[:, 0] - made[:, 1]) / (2 * steps[::2])
    return found


def beside(j: int, width: int) -> int:
    """The pixel to the right; at the end of a line, to the left."""
    return j + 1 if (j + 1) % width else j - 1


def draw(found: Tensor, pixels: Sequence[int], title: str, stem: Path) -> list[Path]:
    with style.drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.2), layout="constrained")
        axes = figure.subplots()
        for row, j in zip(found.cpu().numpy(), pixels, strict=True):
            axes.plot(STEPS, row, lw=1, marker="o", ms=2, label=f"pixel {j}")
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=1)
        axes.set_xlabel("h")
        axes.set_ylabel("d g_i / d x_j, central differences")
        axes.legend(fontsize=7)
        figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        return style.save_figure(figure, stem)


def table(found: Tensor, pixels: Sequence[int]) -> str:
    """CSV: pixel, h, slope."""
    whole = io.StringIO()
    out = csv.writer(whole, lineterminator="\n")
    out.writerow(["pixel", "h", "slope"])
    for row, j in zip(found.tolist(), pixels, strict=True):
        out.writerows([j, f"{h:.3g}", f"{value:.6g}"] for h, value in zip(STEPS, row, strict=True))
    return whole.getvalue()


def main(typed: Sequence[str]) -> str:
    """What to print. Raises BenchError for settings that make no sense."""
    options = dict(each.split("=", 1) for each in typed if each.startswith(OPTIONS))
    overrides = [each for each in typed if not each.startswith(OPTIONS)]
    if not any(each.startswith("defense=") for each in overrides):
        overrides = ["defense=transformation", *overrides]
    (cell, *more) = grid.cells(overrides)
    if more:
        raise BenchError(f"the overrides describe {len(more) + 1} cells; a slope is of one: give every axis one value")
    spec, device = CellSpec.parse(cell.config), device_of(cell.runtime.device)
    image, pairs = int(options.get("image", 0)), int(options.get("pairs", 3))
    test = load(spec.dataset, spec.samples, device)
    if not 0 <= image < len(test) or pairs < 1:
        raise BenchError(
            f"image={image} must lie between 0 and the data set's {len(test) - 1}, pairs={pairs} be at least 1"
        )
    store = Path(cell.config["artifacts"])
    network, _ = networks.deployed(spec, test, store)
    defense = build_victim(spec, network, test, store).defense
    if not isinstance(defense, Transformation):
        raise BenchError(f"{type(defense).__name__} transforms nothing; set defense=transformation")
    x, number = test.images([image])[0].double(), test.numbers([image])
    key = Draw(cell.config["seed"], number, torch.zeros_like(number), Stream.DEFENCE).key()
    start = (uniform(key, *x.shape)[0].double() * 2 - 1) * defense.transform.delta
    rank = uniform(keys(cell.config["seed"], Stream.TARGET, torch.arange(x.numel())), 1)[:, 0]
    pixels = rank.argsort()[:pairs].tolist()
    f_b = getattr(defense.f_b, "network", defense.f_b).double()
    for layer in f_b.modules():
        if isinstance(layer, Normalise):
            layer.answers = None  # what comes in
    found = slopes(defense.transform, f_b, x, start, pixels)
    title = f"d g_i / d x_j, {cell.choices['dataset']}, delta {defense.transform.delta:g}, image {image}"
    stem = Path(options.get("out") or style.default_stem(typed, "transformation_slope"))
    paths = [*draw(found, pixels, title, stem), save(stem.with_name(f"{stem.name}.csv"), table(found, pixels).encode())]
    said = [
        f"pixel {j}: from {row.min():.3g} to {row.max():.3g} over {len(STEPS)} steps h of {STEPS[0]:g} to {STEPS[-1]:g}"
        for j, row in zip(pixels, found, strict=True)
    ]
    return "\n".join([*said, *map(str, paths)])


if __name__ == "__main__":
    try:
        print(main(sys.argv[1:]))
    except BenchError as error:
        sys.exit(f"error: {error}")
