"""The adversarial-transformation paper's Table 1, last row: the average of || x - E g(x) ||_inf over images.

    python scripts/eot_distance.py [images=100] [draws=5000] [overrides, such as defense=transformation dataset=cifar10_jpeg]

Prints the average over images, and what is left of it with half of the draws (how far the mean has settled).
"""

import sys
from pathlib import Path

import torch

from bench import build, grid, key
from bench.rng import Draw, Stream
from defenses.transformation import Transformation


def distance(typed: list[str], images: int, draws: int) -> tuple[float, float]:
    """(with all draws, with the first half of them), in pixel values."""
    (cell,) = grid.cells(typed)
    config, device = cell.config, build.device_of(cell.config["device"])
    test = build.samples(config, device)
    network, _ = build.model(config, key.identity(config), device, test)
    victim = build.victim(config, network, device, int(test.source.ids.max()))
    if not isinstance(victim.defense, Transformation):
        sys.exit(f"error: defense={type(victim.defense).__name__} transforms nothing; set defense=transformation")
    positions = list(range(images))
    x, number = test.images(positions), test.numbers(positions)
    total, half = torch.zeros_like(x), x
    for nth in range(draws):
        draw = Draw(victim.seed, number, torch.full_like(number, nth), Stream.DEFENCE)
        total += victim.defense.moved(x, draw, "exact")
        if nth + 1 == max(draws // 2, 1):
            half = total / (nth + 1)
    whole, part = (float((x - mean).flatten(1).abs().amax(1).mean()) for mean in (total / draws, half))
    return whole, part


def main(typed: list[str]) -> None:
    options = dict(a.split("=") for a in typed if a.startswith(("images=", "draws=")))
    rest = [a for a in typed if not a.startswith(("images=", "draws="))]
    images, draws = int(options.get("images", 100)), int(options.get("draws", 5000))
    whole, half = distance(["defense=transformation", *rest], images, draws)
    print(f"|| x - E g(x) ||_inf: {whole:.3f} over {images} images and {draws} draws ({half:.3f} with half of them)")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(sys.argv[1:])
