"""The disjoint paper's Figures 3 and 4: t-SNE of sign(grad_x L_i) of each member i of a set over test images, coloured by member.

    python -m scripts.gradient_tsne dataset=mnist_parquet model=set_small_cnn \\
        recipe=fast_at_set_mnist_small,disjoint_mnist_small \\
        [images=1000] [out=<store>/figures/gradient_tsne] [any override of conf/bench.yaml]

A panel a set, each a t-SNE of its own, so distances compare within a panel only. Members that an attacker can take for each other
lie mixed, disjoint ones apart. Writes <out>.svg, .png and .csv (the coordinates).
"""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.assemble import networks
from bench.config import grid
from bench.config.runtime import RuntimeSpec
from bench.config.specs import CellSpec
from bench.core.device import device_of
from bench.core.errors import BenchError
from bench.data.samples import Samples, load
from bench.models.split import Split
from bench.report.figures import style
from bench.report.formats.write import save
from scripts.tsne import embed

ROWS = 100  # images of one backward pass


def members(config: Mapping[str, Any], device: torch.device, test: Samples) -> list[Split]:
    """Every network of the set. Raises BenchError for a model that is none."""
    model = config["model"]
    if model["weights"] != "set":
        raise BenchError("gradient signs are compared between the members of a set; choose model=set_… or disjoint_…")
    spec, store = CellSpec.parse(config), RuntimeSpec.parse(config).artifacts
    each = [spec.replace(model=spec.model.model_copy(update={"member": i})) for i in range(model["members"])]
    return [networks.deployed(one, test, store)[0] for one in each]


def signs(network: Split, x: Tensor, y: Tensor) -> np.ndarray:
    """(B, C*H*W) of -1, 0, 1: the signs of the cross-entropy's gradient at each image."""
    found = []
    for images, labels in zip(x.split(ROWS), y.split(ROWS), strict=True):
        leaf = images.clone().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(network(leaf), labels, reduction="sum"), leaf)
        found.append(slope.sign().flatten(1))
    return torch.cat(found).cpu().numpy().astype(np.float32)


def points(networks: Sequence[Split], x: Tensor, y: Tensor, seed: int) -> np.ndarray:
    """(n, B, 2): one t-SNE of all members' signs."""
    rows = np.concatenate([signs(network, x, y) for network in networks])
    return embed(rows, seed).reshape(len(networks), len(x), 2)


def plot(found: Mapping[str, np.ndarray], title: str, stem: Path) -> list[Path]:
    with style.drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.6 * len(found), 4.0), layout="constrained")
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        for axes, (name, sets) in zip(panels, found.items(), strict=True):
            for i, (member, colour) in enumerate(zip(sets, cycle(style.COLOURS), strict=False)):
                marker = "o" if i < len(style.COLOURS) else "x"
                axes.scatter(*member.T, s=6, lw=0.6, color=colour, marker=marker, label=f"model {i}")
            axes.set_title(name, fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
        largest = max(range(len(found)), key=lambda i: len(list(found.values())[i]))
        handles, names = panels[largest].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
        figure.suptitle(title, x=0.01, ha="left")
        return style.save_figure(figure, stem)


def coordinates(found: Mapping[str, np.ndarray], samples: Sequence[int], labels: Sequence[int]) -> str:
    """CSV: set, member, sample, label, x, y."""
    whole = io.StringIO()
    out = csv.writer(whole, lineterminator="\n")
    out.writerow(["set", "member", "sample", "label", "x", "y"])
    for name, sets in found.items():
        for i, member in enumerate(sets):
            out.writerows(
                [name, i, sample, label, f"{a:.4f}", f"{b:.4f}"]
                for sample, label, (a, b) in zip(samples, labels, member, strict=True)
            )
    return whole.getvalue()


def main(typed: Sequence[str]) -> list[Path]:
    options = dict(each.split("=", 1) for each in typed if each.startswith(("images=", "out=")))
    overrides = [each for each in typed if not each.startswith(("images=", "out="))]
    images, found = int(options.get("images", 1000)), dict[str, np.ndarray]()
    numbers, labels = [], []
    for cell in grid.cells(overrides):
        config, device = cell.config, device_of(cell.runtime.device)
        spec = CellSpec.parse(config)
        test = load(spec.dataset, spec.samples, device)
        if not 2 <= images <= len(test):
            raise BenchError(f"images={images} must lie between 2 and the data set's {len(test)}")
        positions = list(range(images))
        networks = members(config, device, test)
        x, y = test.images(positions), test.labels(positions)
        name = f"{cell.choices['recipe']}, {len(networks)} models"
        if name in found:
            raise BenchError(f"the overrides describe two sets called {name}; sweep recipe= and model.members= alone")
        found[name] = points(networks, x, y, config["seed"])
        numbers, labels = test.numbers(positions).tolist(), y.tolist()
    stem = Path(options.get("out") or style.default_stem(typed, "gradient_tsne"))
    table = save(stem.with_name(f"{stem.name}.csv"), coordinates(found, numbers, labels).encode("utf-8"))
    return [*plot(found, f"Signs of the gradient by the image, t-SNE, n={images}", stem), table]


if __name__ == "__main__":
    try:
        print("\n".join(map(str, main(sys.argv[1:]))))
    except BenchError as error:
        sys.exit(f"error: {error}")
