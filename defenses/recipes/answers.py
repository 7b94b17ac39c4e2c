"""A plain network that learns to answer as a defended one does: the surrogate of an attacker who may only ask (Papernot et al.
2017, section 4, without their augmentation), to craft images on and to go back through (BPDA, Athalye et al. 2018, section 4.1).

Scores say more than classes, but some defences blow them up or flatten them: they are centred for each image and divided by their
mean spread over all images, so that a factor on the logits changes nothing.
"""

from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream, keys, uniform
from bench.core.victim import Victim
from bench.data.source import Source, to_float

SHARPNESS = (
    3.0  # of the softmax over scores of unit spread: a one-hot answer among ten classes keeps 99.9% for its class
)


def answered(
    source: Source, *, victim: Victim, seed: int, device: torch.device, images: int, draws: int, noise: str
) -> dict[str, Tensor]:
    """{pixels (draws*images, H, W, C) float16, labels (draws*images, K)}: at most so many of the source's images, in seeded
    order, once as they are and in every further draw with uniform noise of at most `noise` (a fraction of 1) a pixel, and the
    softmax of what the victim answers. Raises BenchError for answers that are not finite."""
    if images < 1 or draws < 1:
        raise BenchError(f"recipe.data.images={images} and recipe.data.draws={draws} must be at least 1")
    rank = uniform(keys(seed, Stream.TARGET, torch.arange(len(source.labels))), 1)[:, 0]
    chosen = rank.argsort()[:images]
    clean = to_float(source.pixels(chosen).to(device), device)
    number, size = torch.arange(len(chosen), device=device), float(Fraction(noise))
    seen, scores = list[Tensor](), list[Tensor]()
    for draw in range(draws):
        x = clean
        if draw:
            spread = uniform(keys(seed, Stream.EOT, number, torch.full_like(number, draw)), *clean.shape[1:])
            x = (clean + size * (2 * spread - 1)).clamp(0, 1)
        x = x.half().float()  # what the network will see
        scores.append(_ask(victim, x, number, draw))
        seen.append(x.permute(0, 2, 3, 1).half().cpu())
    logits = torch.cat(scores)
    if not torch.isfinite(logits).all():
        raise BenchError("the victim answers NaN or inf, from which no surrogate can learn")
    return {"pixels": torch.cat(seen).contiguous(), "labels": shares(logits).cpu()}


def _ask(victim: Victim, x: Tensor, number: Tensor, draw: int) -> Tensor:
    """(N,K), in whole groups where rows share a batch; a fresh victim each time, so that none has seen the image before."""
    group = victim.defense.group
    size, found = group.size if group else victim.rows, list[Tensor]()
    for start in range(0, len(x), size):
        at = torch.arange(start, start + size, device=x.device) % len(
            x
        )  # the last call is filled with the first images
        victim.defense.reset()
        with torch.no_grad():
            logits = victim.defense(x[at], Draw(victim.seed, number[at], torch.full_like(at, draw), Stream.EOT))
        found.append(logits[: len(x) - start].float())
    return torch.cat(found)


def shares(logits: Tensor) -> Tensor:
    """(N,K) -> (N,K): what the surrogate shall answer, as probabilities."""
    centred = logits.double() - logits.double().mean(1, keepdim=True)
    spread = centred.std(1, correction=0).mean().clamp_min(1e-30)
    return (SHARPNESS * centred / spread).softmax(1).float()


def loss(model: nn.Module, x: Tensor, y: Tensor, *, label_smoothing: float) -> tuple[Tensor, None]:
    """x (B,C,H,W) in [0, 1], y (B,K) probabilities -> the mean cross-entropy; no accuracy, since there is no label."""
    return F.cross_entropy(model(x).float(), y, label_smoothing=label_smoothing), None
