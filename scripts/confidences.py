"""GCM's Fig. 1: one image, the perturbation that targeted FGSM finds and the attacked image, with the confidences of the bare
network and of GCM; beside it what the figure leaves out, GCM attacked by BPDA.

    python scripts/confidences.py dataset=cifar10_jpeg model=vgg_fb_adv [image=0] [out=<store>/figures/gcm_confidences]
        [any override of conf/bench.yaml, such as attack=pgd threat.goal=untargeted]

Prints the confidences and writes <out>.svg and .png. The perturbation is shown around grey, stretched to its own size.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from attacks.base import Rows
from bench.assemble import networks
from bench.assemble.attack import build_attack, oracle_of
from bench.assemble.networks import build_victim
from bench.config import grid
from bench.config.specs import CellSpec
from bench.core import success
from bench.core.device import device_of
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream, keys
from bench.data.samples import load
from bench.report.figures import style

OPTIONS = ("image=", "out=")
DEFAULTS = {"attack": "fgsm", "threat.goal": "random"}
VICTIMS = {
    "bare network": ("defense=none",),
    "with GCM": ("defense=gcm",),
    "with GCM, by BPDA": ("defense=gcm", "attack/oracle=bpda"),
}


class Seen(NamedTuple):
    """One victim's view of one image."""

    clean: Tensor  # (C,H,W) in [0, 1]
    attacked: Tensor  # (C,H,W)
    before: Tensor  # (K,) confidences on the clean image, on the attacked one
    after: Tensor
    label: int


def look(typed: Sequence[str], position: int) -> Seen:
    """Attacks the image at this place of the cell's order as the overrides say. Raises BenchError where they are not one cell."""
    (cell, *more) = grid.cells(list(typed))
    if more:
        raise BenchError(
            f"the overrides describe {len(more) + 1} cells; the figure is of one: give every axis one value"
        )
    config, device = cell.config, device_of(cell.runtime.device)
    if "oracle" not in config["attack"]:
        raise BenchError(f"attack={cell.choices['attack']} is no white-box attack; set attack=fgsm or pgd")
    spec = CellSpec.parse(config)
    test = load(spec.dataset, spec.samples, device)
    if not 0 <= position < len(test):
        raise BenchError(f"image={position} must lie between 0 and {len(test) - 1}")
    network, _ = networks.deployed(spec, test, Path(config["artifacts"]))
    victim = build_victim(spec, network, test, Path(config["artifacts"]))
    x, y, number = test.images([position]), test.labels([position]), test.numbers([position])
    one = torch.ones_like(y, dtype=torch.bool)
    clean = victim.query(x, Draw(victim.seed, number, number * 0, Stream.CLEAN), one)
    target = success.targets(config["threat"]["goal"], y, clean, number, victim.seed)
    rows = Rows(number, y, target, keys(victim.seed, Stream.ATTACK, number))
    attack = build_attack(spec, network, test, Path(config["artifacts"]))
    found = attack(oracle_of(attack, victim), x, rows).image.detach()
    attacked = success.fresh_logits(victim, found, number, one)
    before, after = (logits[0].softmax(0).cpu() for logits in (clean, attacked))
    return Seen(x[0].cpu(), found[0].cpu(), before, after, int(y[0]))


def said(name: str, seen: Seen) -> str:
    """One line: the class that the victim names and its confidence, clean and attacked, and what is left of the true one."""
    both = {"clean": seen.before, "attacked": seen.after}
    parts = [f"{what} class {int(each.argmax())} {float(each.max()):.1%}" for what, each in both.items()]
    return f"{name}: {', '.join(parts)}; true class {seen.label} now {float(seen.after[seen.label]):.1%}"


def draw(views: dict[str, Seen], title: str, stem: Path) -> list[Path]:
    """A row a victim: the image, the perturbation, the attacked image."""
    with style.drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.4, 2.1 * len(views)), layout="constrained")
        for axes, (name, seen) in zip(figure.subplots(len(views), 3, squeeze=False), views.items(), strict=True):
            gap = seen.attacked - seen.clean
            size = float(gap.abs().max())
            stretched = 0.5 + gap / (2 * max(size, 1e-12))
            heads = [f"{name}\n{_top(seen.before)}", f"\nperturbation, at most {size:.3f}", f"\n{_top(seen.after)}"]
            for panel, picture, head in zip(axes, (seen.clean, stretched, seen.attacked), heads, strict=True):
                panel.imshow(picture.permute(1, 2, 0).expand(-1, -1, 3).numpy(), interpolation="nearest")
                panel.set_title(head, fontsize=8)
                panel.set_axis_off()
        figure.suptitle(title, x=0.01, ha="left")
        return style.save_figure(figure, stem)


def _top(confidences: Tensor) -> str:
    return f"class {int(confidences.argmax())}: {float(confidences.max()):.1%}"


def main(typed: Sequence[str]) -> list[str]:
    """The lines to print."""
    options = dict(each.split("=", 1) for each in typed if each.startswith(OPTIONS))
    rest = [each for each in typed if not each.startswith((*OPTIONS, "defense=", "attack/oracle="))]
    named = {each.partition("=")[0] for each in rest}
    rest += [f"{name}={value}" for name, value in DEFAULTS.items() if name not in named]
    views = {name: look([*rest, *chosen], int(options.get("image", 0))) for name, chosen in VICTIMS.items()}
    attack = ", ".join(each for each in rest if each.startswith(("attack", "threat")))
    title = f"true class {views['bare network'].label}; {attack}"
    drawn = draw(views, title, Path(options.get("out") or style.default_stem(typed, "gcm_confidences")))
    return [*(said(name, seen) for name, seen in views.items()), *map(str, drawn)]


if __name__ == "__main__":
    try:
        print("\n".join(main(sys.argv[1:])))
    except BenchError as error:
        sys.exit(f"error: {error}")
