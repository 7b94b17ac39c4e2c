"""UniG's Figures 1b and 2a: t-SNE of the features and of the feature gradients, clean and adversarial, without and with its mask.

    python scripts/tsne.py [images=200] [examples=own|bare] [out=<store>/figures/unig_tsne] [any override of conf/bench.yaml]

Writes <out>.svg, .png and .csv (the coordinates). Each of the four panels is a t-SNE of its own, so distances compare within a
panel only. The adversarial images are linf PGD's (10 steps of eps/4, no random start), for each panel on what it shows: the bare
network, or UniG with a fresh mask each step, held fixed in the backward pass. examples=bare: the bare network's for all panels.
"""

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.manifold import TSNE
from torch import Tensor

from bench.assemble import networks
from bench.config import grid
from bench.config.instantiate import make
from bench.config.specs import CellSpec
from bench.core.device import device_of
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.data.samples import load
from bench.models.split import Split
from bench.report.figures import style
from bench.report.formats.write import save
from defenses.unig import Unig

STEPS = 10
OPTIONS, EXAMPLES = ("images=", "out=", "examples="), ("own", "bare")
KINDS, MASKS, SPACES = ("clean", "adversarial"), ("vanilla", "unig"), ("features", "gradients")
Panels = dict[tuple[str, str], np.ndarray]  # (space, mask) -> (2B, d) or (2B, 2), clean rows before adversarial ones


def pgd(network: Split, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """(B,C,H,W) in the linf ball around x and in [0, 1]: signed ascent of the cross-entropy."""
    found = x.clone()
    for _ in range(STEPS):
        found.requires_grad_(True)
        loss = F.cross_entropy(network(found), y, reduction="sum")
        (slope,) = torch.autograd.grad(loss, found)
        found = (found.detach() + eps / 4 * slope.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    return found


def pgd_through(network: Split, defense: Unig, x: Tensor, y: Tensor, eps: float, number: Tensor, seed: int) -> Tensor:
    """As `pgd`, of head(A*f) with UniG's mask A of that step's own noise, for the whole batch; no gradient goes through A."""
    found = x.clone()
    for nth in range(STEPS):
        found.requires_grad_(True)
        f = network.features(found)
        draw = Draw(seed, number, torch.full_like(number, nth), Stream.EOT)
        with torch.no_grad():
            mask = _mask(defense, f, network.head(f).argmax(1), draw)
        (slope,) = torch.autograd.grad(F.cross_entropy(network.head(mask * f), y, reduction="sum"), found)
        found = (found.detach() + eps / 4 * slope.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    return found


class Seen(NamedTuple):
    """What one batch looks like between backbone and head, without and with UniG's mask; (B, d) each."""

    features: dict[str, Tensor]  # A * f
    gradients: dict[str, Tensor]  # g


@torch.no_grad()
def look(network: Split, defense: Unig, x: Tensor, draw: Draw) -> Seen:
    """One forward of `defense` on the batch x (B,C,H,W). `vanilla` is the mask that is 1 everywhere."""
    f, head = network.features(x), network.head
    label = head(f).argmax(1)  # UniG's pseudo-labels
    masks = {"vanilla": torch.ones_like(f), "unig": _mask(defense, f, label, draw)}
    return Seen(
        {name: mask * f for name, mask in masks.items()},
        {name: feature_gradient(f, label, mask, head.weight, head.bias) for name, mask in masks.items()},  # pyright: ignore[reportArgumentType]
    )


def _mask(defense: Unig, f: Tensor, label: Tensor, draw: Draw) -> Tensor:
    """(B, d): as in Unig.forward for a batch without companions."""
    noise = defense._noise(draw, (f.shape[1],))  # its inner steps: `forward` gives only logits
    if not defense.steps:
        return noise.clamp(1 - defense.delta, 1 + defense.delta)
    defense.reset()
    return defense._unify(f[None], label[None], noise[None])[0]


def feature_gradient(f: Tensor, label: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, d): d/df of the batch's mean cross-entropy of head(A*f), which UniG unifies: A*r/b, r = (softmax - onehot)W."""
    soft = torch.softmax((mask * f) @ weight.T + bias, dim=-1)
    return mask * ((soft - F.one_hot(label, len(weight))) @ weight) / len(f)


def embed(rows: np.ndarray, seed: int) -> np.ndarray:
    """(N, d) -> (N, 2). Scaled first: gradients of confident rows are so small that t-SNE's tolerances would matter."""
    scaled = (rows - rows.mean(0)) / (rows.std() or 1.0)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    return TSNE(2, init="pca", perplexity=perplexity, random_state=seed).fit_transform(scaled)


def collect(
    network: Split,
    defense: Unig,
    x: Tensor,
    y: Tensor,
    number: Tensor,
    eps: float,
    size: int,
    seed: int,
    examples: str = "own",
) -> Panels:
    """Every panel's vectors, in batches of `size` rows that are all clean or all adversarial, as an attacker's are."""
    batches = [slice(start, start + size) for start in range(0, len(x), size)]
    bare = torch.cat([pgd(network, x[some], y[some], eps) for some in batches])
    attacked = {"vanilla": bare, "unig": bare}
    if examples == "own":
        each = [pgd_through(network, defense, x[some], y[some], eps, number[some], seed) for some in batches]
        attacked["unig"] = torch.cat(each)
    seen: dict[str, list[Seen]] = {mask: [] for mask in MASKS}
    for mask in MASKS:
        for nth, images in enumerate((x, attacked[mask])):  # fresh noise for the second query, as in any attack
            for some in batches:
                draw = Draw(seed, number[some], torch.full_like(number[some], nth), Stream.CLEAN)
                seen[mask].append(look(network, defense, images[some], draw))
    return {
        (space, mask): torch.cat([getattr(each, space)[mask] for each in seen[mask]]).cpu().numpy().astype(np.float64)
        for space in SPACES
        for mask in MASKS
    }


def plot(points: Panels, labels: np.ndarray, title: str, stem: Path) -> list[Path]:
    """A panel a space (rows) and mask (columns); colour = class, filled = clean, cross = adversarial."""
    with style.drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 7), layout="constrained")
        for axes, (space, mask) in zip(figure.subplots(2, 2).flat, points, strict=True):
            for kind, part, marker in zip(KINDS, np.split(points[space, mask], 2), ("o", "x"), strict=True):
                axes.scatter(
                    *part.T, c=labels % 10, cmap="tab10", vmin=0, vmax=9, s=12, lw=0.8, marker=marker, label=kind
                )
            axes.set_title(f"{space}, {mask}", fontsize=9)
            axes.set_xticks([])
            axes.set_yticks([])
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=2)
        figure.suptitle(title, x=0.01, ha="left")
        return style.save_figure(figure, stem)


def coordinates(points: Panels, samples: np.ndarray, labels: np.ndarray) -> str:
    """CSV: sample, label, kind, space, mask, x, y."""
    whole = io.StringIO()
    out = csv.writer(whole, lineterminator="\n")
    out.writerow(["sample", "label", "kind", "space", "mask", "x", "y"])
    for (space, mask), both in points.items():
        for kind, part in zip(KINDS, np.split(both, 2), strict=True):
            out.writerows(
                [sample, label, kind, space, mask, f"{x:.4f}", f"{y:.4f}"]
                for sample, label, (x, y) in zip(samples, labels, part, strict=True)
            )
    return whole.getvalue()


def batch_size(config: dict[str, Any], images: int) -> int:
    """Rows that share a batch: the whole lot, or the defence's group where it is smaller."""
    group = config["defense"].get("group") or {}
    if config["defense"]["_target_"] != "defenses.unig.Unig" or group["neighbours"] == "companions":
        raise BenchError("t-SNE shows UniG's mask over a shared batch: set defense=unig, unig_leave or unig_noise")
    size = min(images, int(group["size"]))
    if images % size:  # g is divided by the batch size: a shorter last batch would lie apart for that reason alone
        raise BenchError(f"images={images} must be a multiple of defense.group.size={size}, or at most that")
    return size


def main(typed: Sequence[str]) -> list[Path]:
    options = dict(each.split("=", 1) for each in typed if each.startswith(OPTIONS))
    overrides = [each for each in typed if not each.startswith(OPTIONS)]
    examples = options.get("examples", "own")
    if examples not in EXAMPLES:
        raise BenchError(f"examples={examples}: it is one of {', '.join(EXAMPLES)}")
    if not any(each.startswith("defense=") for each in overrides):
        overrides = ["defense=unig", *overrides]
    cells = grid.cells(overrides)
    if len(cells) > 1:
        raise BenchError(f"the overrides describe {len(cells)} cells; a t-SNE shows one: give every axis one value")
    config, images = cells[0].config, int(options.get("images", 200))
    spec = CellSpec.parse(config)
    limits, size = spec.threat, batch_size(config, images)
    if limits.norm != "linf":
        raise BenchError(
            f"threat.norm={limits.norm}: the adversarial images of this figure are linf; set threat=linf_8"
        )
    device = device_of(config["device"])
    test = load(spec.dataset, spec.samples, device)
    if not 2 <= images <= len(test):
        raise BenchError(f"images={images} must lie between 2 and the data set's {len(test)}")
    network, _ = networks.deployed(spec, test, Path(config["artifacts"]))
    defense = make(spec.defense, model=network)
    positions, seed = list(range(images)), config["seed"]
    x, y, number = test.images(positions), test.labels(positions), test.numbers(positions)
    panels = collect(network, defense, x, y, number, limits.radius, size, seed, examples)
    points = {place: embed(rows, seed) for place, rows in panels.items()}
    stem, labels = Path(options.get("out") or style.default_stem(typed, "unig_tsne")), y.cpu().numpy()
    choices = cells[0].choices
    title = f"t-SNE, {choices['dataset']}, {choices['model']}, {choices['defense']}, n={images}, linf {limits.eps}"
    table = save(stem.with_name(f"{stem.name}.csv"), coordinates(points, number.cpu().numpy(), labels).encode("utf-8"))
    return [*plot(points, labels, title, stem), table]


if __name__ == "__main__":
    try:
        print("\n".join(map(str, main(sys.argv[1:]))))
    except BenchError as error:
        sys.exit(f"error: {error}")
