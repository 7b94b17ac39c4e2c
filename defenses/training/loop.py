"""The one training loop: SGD with (by default Nesterov) momentum, one cycle or steps of the rate, images on the device as uint8.

A recipe is a loss for this loop and the numbers of a `RecipeSpec`; the model may be a set of networks (model_sets.py), or one
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
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from bench.config.network_specs import RecipeSpec
from bench.core.errors import BenchError
from bench.data.source import Source, to_float
from bench.models.weights import load_into
from defenses.training import augment, model_sets
from defenses.training.checkpoint import restore, save
from defenses.training.progress import Progress


def train(
    model: nn.Module,
    source: Source,
    recipe: RecipeSpec,
    loss: model_sets.Loss,
    *,
    seed: int,
    folder: Path,
    device: torch.device,
    check: Source | None,
    data: Mapping[str, Tensor] | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> None:
    """Trains in place, from weights drawn from the seed or those of `start`; the folder gets log.jsonl and what resuming needs.

    data: {pixels (N,H,W,C), labels (N,)} that a recipe made of the source's images, in their place; floats may leave [0, 1].
    """
    folder.mkdir(parents=True, exist_ok=True)
    loss_of = model_sets.fitted(loss, model, recipe.compile)
    model_sets.fresh_weights(model, seed)
    if start is not None:
        load_into(model, start, "the network that recipe.start names")
    model.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimiser = _optimiser(model, recipe)
    done = restore(folder, model, optimiser, seed)
    if data is None:
        images = on_device(source, device, recipe.images)
    else:
        images = Images(*(data[name][: recipe.images].to(device) for name in ("pixels", "labels")))
    tests = None if check is None else on_device(check, device)
    network = cast(nn.Module, torch.compile(model)) if recipe.compile else model
    with Progress(folder / "log.jsonl", done, recipe.epochs, _steps(recipe, images.labels)) as progress:
        for epoch in range(done, recipe.epochs):
            started = time.perf_counter()
            sums = _epoch(network, loss_of, images, optimiser, recipe, epoch, _key(seed, epoch), progress)
            value, train_acc = (each / _steps(recipe, images.labels) for each in sums.tolist())
            if not math.isfinite(value):
                raise BenchError(f"the loss became {value} in epoch {epoch + 1}; lower recipe.lr={recipe.lr}")
            test_acc = None if tests is None else accuracy(model, tests, bf16=recipe.bf16)
            seconds = time.perf_counter() - started
            progress.epoch(epoch=epoch + 1, loss=value, train_acc=train_acc, test_acc=test_acc, seconds=seconds)
            save(folder, model, optimiser, seed, epoch + 1)
    model.eval()


def _epoch(
    network: nn.Module,
    loss_of: model_sets.Loss,
    data: "Images",
    optimiser: torch.optim.SGD,
    recipe: RecipeSpec,
    epoch: int,
    key: int,
    progress: Progress,
) -> Tensor:
    """One pass over the data, which never waits for the device -> (2,) over its steps the sum of the loss and of the accuracy on
    the augmented batches (NaN without logits)."""
    device, steps = data.labels.device, _steps(recipe, data.labels)
    chances = augment.plan(len(data.labels), recipe.pad, recipe.flip, key, device)
    loss, right = torch.zeros((), device=device), torch.zeros((), device=device)
    network.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(key)  # dropout reads the global generator and nothing else
        for step in range(steps):
            chance = chances.part(step * recipe.batch, (step + 1) * recipe.batch)
            x = augment.gather(data.pixels, chance, recipe.pad_mode)
            x = x.float() if x.is_floating_point() else to_float(x, device)
            y = data.labels[chance.ids]
            _set_lr(optimiser, recipe, (epoch * steps + step + 0.5) / (recipe.epochs * steps))
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
                value, logits = loss_of(network, x, y, epoch)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            loss += value.detach()
            right += math.nan if logits is None else (logits.detach().argmax(-1) == y).float().mean()
            progress.step(epoch, step)
    return torch.stack([loss, right])


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


def accuracy(model: nn.Module, images: Images, rows: int = 500, bf16: bool = False) -> float:
    """The share that the model gets right, in eval mode and float32; of a set, its members' mean. bf16: in the arithmetic that a
    recipe trains in, for its log: after every epoch, float32 would take a tenth of a GPU's training time."""
    model.eval()
    right, asked = torch.zeros((), dtype=torch.long, device=images.labels.device), 0
    with torch.no_grad():
        for pixels, y in zip(images.pixels.split(rows), images.labels.split(rows), strict=True):
            with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
                answers = model(to_float(pixels.permute(0, 3, 1, 2), pixels.device)).argmax(-1) == y
            right, asked = right + answers.sum(), asked + answers.numel()
    return int(right) / asked


def _steps(recipe: RecipeSpec, labels: Tensor) -> int:
    return max(1, len(labels) // recipe.batch)


def _optimiser(model: nn.Module, recipe: RecipeSpec) -> torch.optim.SGD:
    learning = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in learning if p.ndim > 1]
    vectors = [p for p in learning if p.ndim <= 1]  # biases and batch norm
    rest = recipe.weight_decay if recipe.decay_all else 0.0
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": rest}]
    nesterov = recipe.nesterov is not False
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)


def _set_lr(optimiser: torch.optim.Optimizer, recipe: RecipeSpec, done: float) -> None:
    if recipe.drops is None:
        lr = recipe.lr * min(done / recipe.peak, (1 - done) / (1 - recipe.peak))
    else:
        lr = recipe.lr * 0.1 ** sum(done * recipe.epochs >= drop for drop in recipe.drops)
    for group in optimiser.param_groups:
        group["lr"] = lr


def _key(seed: int, epoch: int) -> int:
    return int.from_bytes(hashlib.sha256(json.dumps([seed, epoch]).encode()).digest()[:4])
