"""Training h to minimise || h(x) - g(x) ||^2 (the transformation paper's reparameterisation attack). The loss is the mean over
pixels, so that a learning rate suits any image size. Each visit has another random start of g, so h learns E g(x).

`loss` draws g anew for every batch (for GPUs); `paired` takes pairs made of the images that f_a was trained on, whose g is
cached (`transformed.cached`).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.data.source import Source
from defenses.recipes import transformed
from defenses.training.augment import Pad
from defenses.transformation import Transform

ROUNDING = 1e-3  # of two float16 numbers below 2


def loss(model: nn.Module, x: Tensor, y: Tensor, *, f_b: nn.Module, transform: dict[str, Any]) -> tuple[Tensor, None]:
    """x (B,C,H,W) in [0, 1] -> the mean squared distance of h(x) to a fresh draw of g(x); there are no logits."""
    g = Transform(**transform)
    return F.mse_loss(model(x), g(f_b, x, torch.empty_like(x).uniform_(-g.delta, g.delta))), None


def paired(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, None]:
    """x (B,2C,H,W): the image and its g, channel after channel."""
    image, moved = x.chunk(2, dim=1)
    return F.mse_loss(model(image).float(), moved), None


def pairs(
    source: Source,
    moved: dict[str, Tensor],
    *,
    seed: int,
    device: torch.device,
    draws: int,
    images: int,
    pad: int,
    pad_mode: Pad,
    flip: bool,
    transform: dict[str, Any],
) -> dict[str, Tensor]:
    """{pixels (draws*images, H, W, 2C) float16, labels}. moved: what `transformed.cached` made of the same settings, whose images
    are looked up again. Raises BenchError where an image lies further than delta from its g: the two are no pair."""
    settings: dict[str, Any] = {"draws": draws, "images": images, "pad": pad, "pad_mode": pad_mode, "flip": flip}
    parts = transformed.views(source, seed=seed, device=device, **settings)
    x = torch.cat([view.x.permute(0, 2, 3, 1).half().cpu() for view in parts])
    gap = float((moved["pixels"].float() - x.float()).abs().max())
    if gap > Transform(**transform).delta + ROUNDING:
        raise BenchError(
            f"a cached g(x) lies {gap:.3f} from its x, beyond delta={transform['delta']}; delete that data artifact"
        )
    return {"pixels": torch.cat([x, moved["pixels"]], dim=3).contiguous(), "labels": moved["labels"]}
