"""Training f_a on g(x) (adversarial transformation, equation 1): cross-entropy on transformed images.

`loss` transforms every batch anew (13 passes through f_b a step: for GPUs). `cached` transforms augmented images `draws` times
once and for all; the loop then sees draws x images samples, so divide the epochs by `draws`.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.core.rng import Stream, keys, uniform
from bench.data.source import Source, to_float
from defenses.training import augment
from defenses.transformation import Transform

ROWS = 64  # of one call of f_b


def loss(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    f_b: nn.Module,
    transform: dict[str, Any],
    label_smoothing: float,
    random_start: bool = True,
) -> tuple[Tensor, Tensor]:
    """x (B,C,H,W) in [0, 1] -> the mean loss and the logits on g(x), with a fresh random start or without one."""
    g = Transform(**transform)
    start = torch.empty_like(x).uniform_(-g.delta, g.delta) if random_start else torch.zeros_like(x)
    logits = model(g(f_b, x, start))
    return F.cross_entropy(logits.float(), y, label_smoothing=label_smoothing), logits


def cached(
    source: Source,
    *,
    f_b: nn.Module,
    seed: int,
    device: torch.device,
    draws: int,
    images: int,
    pad: int,
    pad_mode: augment.Pad,
    flip: bool,
    transform: dict[str, Any],
) -> dict[str, Tensor]:
    """{pixels (draws*images, H, W, C) float16, labels} of `views`, moved by g."""
    g = Transform(**transform)
    made, labels = [], []
    for view in views(
        source, seed=seed, device=device, draws=draws, images=images, pad=pad, pad_mode=pad_mode, flip=flip
    ):
        noise = uniform(keys(seed, Stream.EOT, view.ids, torch.full_like(view.ids, view.draw)), *view.x.shape[1:])
        made.append(g(f_b, view.x, (noise * 2 - 1) * g.delta).permute(0, 2, 3, 1).half().cpu())
        labels.append(view.labels)
    return {"pixels": torch.cat(made).contiguous(), "labels": torch.cat(labels)}


class View(NamedTuple):
    draw: int
    ids: Tensor  # (B,) places among the chosen images
    x: Tensor  # (B,C,H,W) in [0, 1], cropped and flipped
    labels: Tensor  # (B,), on the CPU


def views(
    source: Source,
    *,
    seed: int,
    device: torch.device,
    draws: int,
    images: int,
    pad: int,
    pad_mode: augment.Pad,
    flip: bool,
) -> Iterator[View]:
    """What g is applied to, ROWS at a time: the first `images` of a hashed order, cropped and flipped anew in each draw. Raises
    BenchError where the data set has fewer."""
    if not 1 <= images <= len(source.labels) or draws < 1:
        raise BenchError(
            f"recipe.data.images={images} must lie in 1..{len(source.labels)}, recipe.data.draws={draws} be at least 1"
        )
    rank = uniform(keys(seed, Stream.TARGET, torch.arange(len(source.labels))), 1)[:, 0]
    chosen = rank.argsort()[:images]
    pixels = source.pixels(chosen).permute(0, 2, 3, 1).contiguous().to(device)
    for draw in range(draws):
        chances = augment.plan(images, pad, flip, seed * 1000 + draw, device)
        for first in range(0, images, ROWS):
            part = chances.part(first, first + ROWS)
            x = to_float(augment.gather(pixels, part, pad_mode), device).contiguous()
            yield View(draw, part.ids, x, source.labels[chosen][part.ids.cpu()])
