"""The one training loop: SGD with Nesterov momentum, one cycle or steps of the rate, images on the device as uint8.

A recipe is a loss for this loop and the numbers of `Settings`; the model may be a set of networks (model_sets.py), or one
from image to image (defenses.recipes.reparameterise).
After every epoch the state goes to the folder, and an epoch is a function of (seed, epoch, state): a killed run ends with the
same weights as an undisturbed one, on the same device kind and thread count. Weight decay spares biases and batch norm; an
incomplete last batch is dropped.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from hydra.utils import instantiate
from torch import Tensor, nn

from bench.config import kinds
from bench.core.errors import BenchError, nearest
from bench.data.source import Source, to_float
from defenses.training import augment, model_sets
from defenses.training.checkpoint import restore, save
from defenses.training.progress import Progress


@dataclass(frozen=True)
class Settings:
    """The fields of conf/recipe/*.yaml."""

    version: int
    epochs: int
    batch: int
    lr: float  # at the peak
    peak: float  # where the peak lies, as a share of all steps: lr rises linearly from 0 and falls linearly to 0
    momentum: float
    weight_decay: float
    pad: int  # random crop: up to so many pixels to each side
    pad_mode: augment.Pad
    flip: bool
    bf16: bool
    compile: bool
    loss: model_sets.Loss
    drops: list[int] | None = (
        None  # instead of one cycle: lr from the first step, a tenth of it from each of these epochs
    )
    images: int | None = None  # train on the first so many; a YAML without the field means all, and keeps its key

    @classmethod
    def of(cls, recipe: Mapping[str, Any]) -> "Settings":
        names = {field.name: field.default is MISSING for field in fields(cls)}
        for name in recipe:
            if name not in names:
                raise BenchError(f"recipe has no field {name!r}{nearest(str(name), names)}")
        for name, needed in names.items():
            if needed and name not in recipe:
                raise BenchError(f"recipe lacks the field {name!r}; add it to its YAML")
        kinds.check("recipe", cls.__annotations__, recipe)
        for name, least in (("epochs", 0), ("batch", 1), ("images", 1)):
            if (value := recipe.get(name)) is not None and value < least:
                raise BenchError(f"recipe.{name}={value} must be at least {least}")
        loss = recipe["loss"]
        return cls(**{**recipe, "loss": loss if callable(loss) else instantiate(loss)})


def train(
    model: nn.Module,
    source: Source,
    recipe: Mapping[str, Any],
    *,
    seed: int,
    folder: Path,
    device: torch.device,
    check: Source | None,
    data: Mapping[str, Tensor] | None = None,
) -> None:
    """Trains in place, from weights drawn from the seed; the folder gets log.jsonl and what a resumed run needs.

    data: {pixels (N,H,W,C), labels (N,)} that a recipe made of the source's images, in their place; floats may leave [0, 1].
    """
    settings = Settings.of(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    loss_of = model_sets.fitted(settings.loss, model, settings.compile)
    model_sets.fresh_weights(model, seed)
    model.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimiser = _optimiser(model, settings)
    done = restore(folder, model, optimiser, seed)
    if data is None:
        images = on_device(source, device, settings.images)
    else:
        images = Images(*(data[name][: settings.images].to(device) for name in ("pixels", "labels")))
    tests = None if check is None else on_device(check, device)
    network = cast(nn.Module, torch.compile(model)) if settings.compile else model
    with Progress(folder / "log.jsonl", done, settings.epochs, _steps(settings, images.labels)) as progress:
        for epoch in range(done, settings.epochs):
            started = time.perf_counter()
            loss, train_acc = _epoch(network, loss_of, images, optimiser, settings, epoch, _key(seed, epoch), progress)
            if not math.isfinite(loss):
                raise BenchError(f"the loss became {loss} in epoch {epoch + 1}; lower recipe.lr={settings.lr}")
            test_acc = None if tests is None else accuracy(model, tests)
            seconds = time.perf_counter() - started
            progress.epoch(epoch=epoch + 1, loss=loss, train_acc=train_acc, test_acc=test_acc, seconds=seconds)
            save(folder, model, optimiser, seed, epoch + 1)
    model.eval()


def _epoch(
    network: nn.Module,
    loss_of: model_sets.Loss,
    data: "Images",
    optimiser: torch.optim.SGD,
    settings: Settings,
    epoch: int,
    key: int,
    progress: Progress,
) -> tuple[float, float]:
    """One pass over the data -> mean loss and accuracy on the augmented batches (NaN without logits), read back from the device
    once."""
    device, steps = data.labels.device, _steps(settings, data.labels)
    chances = augment.plan(len(data.labels), settings.pad, settings.flip, key, device)
    loss, right = torch.zeros((), device=device), torch.zeros((), device=device)
    network.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(key)  # dropout reads the global generator and nothing else
        for step in range(steps):
            chance = chances.part(step * settings.batch, (step + 1) * settings.batch)
            x = augment.gather(data.pixels, chance, settings.pad_mode)
            x = x.float() if x.is_floating_point() else to_float(x, device)
            y = data.labels[chance.ids]
            _set_lr(optimiser, settings, (epoch * steps + step + 0.5) / (settings.epochs * steps))
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
                value, logits = loss_of(network, x, y, epoch)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            loss += value.detach()
            right += math.nan if logits is None else (logits.detach().argmax(-1) == y).float().mean()
            progress.step(epoch, step)
    return loss.item() / steps, right.item() / steps


class Images(NamedTuple):
    """A whole split on the device."""

    pixels: Tensor  # (N, H, W, C) uint8, or float16 where a recipe changed them
    labels: Tensor  # (N,)


def on_device(source: Source, device: torch.device, images: int | None = None) -> Images:
    """images: only the first so many; BenchError where there are fewer."""
    total = len(source.labels)
    n = total if images is None else images
    if not 1 <= n <= total:
        raise BenchError(f"recipe.images={images}, but there are {total} to train on; set null for all of them")
    pixels = source.pixels(torch.arange(n)).permute(0, 2, 3, 1).contiguous()
    return Images(pixels.to(device), source.labels[:n].to(device))


def accuracy(model: nn.Module, images: Images, rows: int = 500) -> float:
    """The share that the model gets right, in eval mode and float32; of a set, its members' mean."""
    model.eval()
    right, asked = torch.zeros((), dtype=torch.long, device=images.labels.device), 0
    with torch.no_grad():
        for pixels, y in zip(images.pixels.split(rows), images.labels.split(rows), strict=True):
            answers = model(to_float(pixels.permute(0, 3, 1, 2), pixels.device)).argmax(-1) == y
            right, asked = right + answers.sum(), asked + answers.numel()
    return int(right) / asked


def _steps(settings: Settings, labels: Tensor) -> int:
    return max(1, len(labels) // settings.batch)


def _optimiser(model: nn.Module, settings: Settings) -> torch.optim.SGD:
    learning = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in learning if p.ndim > 1]
    vectors = [p for p in learning if p.ndim <= 1]  # biases and batch norm
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=True)


def _set_lr(optimiser: torch.optim.Optimizer, settings: Settings, done: float) -> None:
    if settings.drops is None:
        lr = settings.lr * min(done / settings.peak, (1 - done) / (1 - settings.peak))
    else:
        lr = settings.lr * 0.1 ** sum(done * settings.epochs >= drop for drop in settings.drops)
    for group in optimiser.param_groups:
        group["lr"] = lr


def _key(seed: int, epoch: int) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps([seed, epoch]).encode()).digest()[:4])
