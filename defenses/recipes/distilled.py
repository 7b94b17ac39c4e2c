"""Training data for a plain network that answers as a transformation defence does: the surrogate of an attacker who has the
defence, but no gradient through g (adaptive.md: end-to-end distillation). Hard labels: the class of f_a on a draw of g(x)."""

from typing import Any

import torch
from torch import Tensor, nn

from bench.core.rng import Stream, keys, uniform
from bench.data.source import Source
from defenses.recipes import transformed
from defenses.training import augment
from defenses.transformation import Transform


def answered(
    source: Source,
    *,
    f_a: nn.Module,
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
    """{pixels (draws*images, H, W, C) float16, labels}: the views of `transformed.views` and what the defence calls them."""
    g = Transform(**transform)
    seen, called = [], []
    settings: dict[str, Any] = {"draws": draws, "images": images, "pad": pad, "pad_mode": pad_mode, "flip": flip}
    for view in transformed.views(source, seed=seed, device=device, **settings):
        noise = uniform(keys(seed, Stream.EOT, view.ids, torch.full_like(view.ids, view.draw)), *view.x.shape[1:])
        with torch.no_grad():
            called.append(f_a(g(f_b, view.x, (noise * 2 - 1) * g.delta)).argmax(1).cpu())
        seen.append(view.x.permute(0, 2, 3, 1).half().cpu())
    return {"pixels": torch.cat(seen).contiguous(), "labels": torch.cat(called)}
