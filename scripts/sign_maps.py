"""GCM's Fig. 4: signs of the gradient at one image, as the attacker sees them: bare network, through GCM, through GCM by BPDA.

    python scripts/sign_maps.py out=results/figures/gcm_signs [image=0] [any override of conf/bench.yaml]

Black -1, grey 0, white +1, the channels side by side; writes .png and .svg and prints the share of signs that GCM flips.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from attacks.base import Rows
from attacks.oracles.gradients import Bpda, Exact
from bench.assemble import networks
from bench.assemble.networks import build_victim
from bench.config import grid
from bench.config.specs import CellSpec
from bench.core.device import device_of
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys
from bench.data.samples import load


def signs(typed: list[str], image: int) -> dict[str, Tensor]:
    """{name: (C,H,W) of -1, 0, 1}."""
    maps: dict[str, Tensor] = {}
    for name, defense, oracle in (
        ("bare network", "none", Exact),
        ("through GCM", "gcm", Exact),
        ("BPDA", "gcm", Bpda),
    ):
        (cell,) = grid.cells([*typed, f"defense={defense}"])
        config, device = cell.config, device_of(cell.runtime.device)
        spec = CellSpec.parse(config)
        test = load(spec.dataset, spec.samples, device)
        if not 0 <= image < len(test):
            raise BenchError(f"image={image} must lie between 0 and {len(test) - 1}")
        network, _ = networks.deployed(spec, test, Path(config["artifacts"]))
        victim = build_victim(spec, network, test, Path(config["artifacts"]))
        x, y, number = test.images([image]), test.labels([image]), test.numbers([image])
        rows = Rows(number, y, torch.full_like(y, -1), keys(0, Stream.ATTACK, number))
        made = oracle(victim, "identity") if oracle is Bpda else Exact(victim)
        maps[name] = made(x, rows, "cross_entropy", torch.ones_like(y, dtype=torch.bool)).grad[0].sign().cpu()
    return maps


def main(typed: list[str]) -> None:
    options = dict(a.split("=", 1) for a in typed if a.startswith(("out=", "image=")))
    maps = signs([a for a in typed if not a.startswith(("out=", "image="))], int(options.get("image", 0)))
    bare = maps["bare network"]
    for name, seen in maps.items():
        print(f"{name}: {float((seen != bare)[bare != 0].float().mean()):.1%} of the bare network's signs changed")
    out = Path(options.get("out", "results/figures/gcm_signs"))
    with mpl.rc_context({"svg.hashsalt": "bench"}):
        figure, axes = plt.subplots(len(maps), 1, figsize=(6, 2.2 * len(maps)), layout="constrained")
        for axis, (name, seen) in zip(axes, maps.items(), strict=True):
            axis.imshow(torch.cat(list(seen), dim=1).numpy(), cmap="gray", vmin=-1, vmax=1)
            axis.set_title(f"gradient signs, {name}", fontsize=9)
            axis.set_axis_off()
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out.with_suffix(".png"), dpi=120)
        figure.savefig(out.with_suffix(".svg"), metadata={"Date": None})
        plt.close(figure)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    try:
        main(sys.argv[1:])
    except BenchError as error:
        sys.exit(f"error: {error}")
