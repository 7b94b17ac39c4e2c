"""Adversarially-disjoint models ("What's in the box?!": Deflecting Adversarial Attacks by Randomly Deploying
Adversarially-Disjoint Models): n networks trained together so that an example made on one does not fool another. Each is an
ordinary network at test time.

v_j is the gradient of model j's loss in the input. The loss is w1 L_class + w2 L_angle + w3 L_t1 + w4 L_t2 with w1 = 1:
  L_class  mean over models of the cross-entropy
  L_angle  mean over pairs, images and colour channels of 1 + cos(v_i, v_j)
  L_t1     mean over ordered pairs of how much x + e1 v_j raises model i's loss, if it does
  L_t2     the same for x + e2 tanh(gain v_j)
Weights learn through v_j as well: every model moves its own gradient. All passes are in train mode, batch norm's running
statistics see the moved images too, and these are not clipped to [0, 1] (as in the authors' code).

Where the paper and its code differ, this follows the code: gain 20000 (paper 1), weights and epochs of each loss, and v_j of the
batch's mean loss, so that it shrinks with the batch: e1 = 6 moves an image by 6/B of its own gradient. `grad_reduction: sum`
takes the sum's. Deviations: Nesterov momentum, decay that spares biases and batch norm, all 50,000 images, the last epoch's
weights (theirs: the lowest loss on 5,000 held out).

A set may have frozen members (bench.models.sets), as in the paper's "adding one new model": all losses are taken over all
members, but only the new ones learn. What frozen members alone decide, a constant, is left out of the transfer losses.

Passes of a step for n = 3: 3 forward, 3 input gradients that are differentiated again, 12 moved forwards (n = 4: 24 moved). In
units of one network's training step (forward, backward in the input, backward in the weights) that is 15 steps, and another 3 for
the gradients (1 pass) with their derivative (2 passes): 18. A pair whose loss the move does not raise adds nothing and goes
through no backward pass. Measured in CPU time by scripts/set_cost.py (cifar_small, batch 120, one core, all losses on): 12.7
standard steps as the recipe is, 17.4 with moves so large that no pair is cut off; 22 to 27 without defenses.recipes.twice.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations, permutations

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.core.errors import BenchError
from bench.core.rows import on_host
from bench.models.sets import ModelSet
from defenses.training.double_backward import cheap_twice

REDUCTIONS = ("mean", "sum")
SMALLEST = 1e-30  # a slope whose largest entry is below this has no direction in float32


def loss(
    models: ModelSet,
    x: Tensor,
    y: Tensor,
    *,
    epoch: int,
    angle: float,
    transfer_1: float,
    transfer_2: float,
    angle_epochs: Sequence[int],
    transfer_1_from: int,
    transfer_2_from: int,
    e1: float,
    e2: float,
    gain: float,
    sampled: int | None,
    grad_reduction: str,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    """x (B,C,H,W) in [0, 1], y (B,) -> the loss and the logits (n,B,K).

    epoch: 0 is the first. angle, transfer_1, transfer_2: w2, w3, w4. angle_epochs: the first and the last with the angle loss;
    transfer_*_from: the first with that loss. e1: in pixels ([0, 1]) per unit of v; e2: in pixels. sampled: the transfer losses
    use so many models, drawn anew each step; null: all. Raises BenchError for weights below 0 and for settings of no meaning.
    """
    _check({"angle": angle, "transfer_1": transfer_1, "transfer_2": transfer_2}, sampled, len(models), grad_reduction)
    leaf = x.detach().requires_grad_()
    with cheap_twice(models):
        logits = [member(leaf) for member in models.members]
    loss_of = partial(_cross_entropy, y=y, label_smoothing=label_smoothing)
    attached = [loss_of(each) for each in logits]
    losses = [each.detach() if i < models.frozen else each for i, each in enumerate(attached)]
    value, shown = torch.stack(losses).mean(), torch.stack([each.detach() for each in logits])
    straight = angle > 0 and angle_epochs[0] <= epoch <= angle_epochs[1]
    moves: list[tuple[float, Callable[[Tensor], Tensor]]] = []
    if transfer_1 > 0 and epoch >= transfer_1_from:
        moves.append((transfer_1, lambda v: e1 * v))
    if transfer_2 > 0 and epoch >= transfer_2_from:
        moves.append((transfer_2, lambda v: e2 * torch.tanh(gain * v)))
    chosen = _chosen(len(models), sampled if moves else 0)
    scale = len(x) if grad_reduction == "sum" else 1
    slopes = {i: scale * _slope(attached[i], leaf) for i in (range(len(models)) if straight else chosen)}
    slopes = {i: slope.detach() if i < models.frozen else slope for i, slope in slopes.items()}
    if straight:
        value = value + angle * angle_loss(list(slopes.values()))
    for weight, move in moves:
        moved = {j: leaf + move(slopes[j]) for j in chosen}
        value = value + weight * transfer_loss(models, moved, losses, loss_of)
    return value, shown


def angle_loss(slopes: Sequence[Tensor]) -> Tensor:
    """(B,C,H,W) each -> the mean of 1 + cosine over pairs, images and channels; 1 for a slope that is 0."""
    units = [_unit(slope) for slope in slopes]
    return torch.stack([1 + (a * b).sum((2, 3)).mean() for a, b in combinations(units, 2)]).mean()


def transfer_loss(
    models: ModelSet, moved: dict[int, Tensor], losses: Sequence[Tensor], loss_of: Callable[[Tensor], Tensor]
) -> Tensor:
    """moved: model j -> (B,C,H,W), the images moved along j's slope. losses: () each, of every model on the images themselves.
    -> the mean over ordered pairs i != j of max(loss of i on moved j - its loss, 0); max of the batch's mean, as in the code."""
    pairs = list(permutations(moved, 2))
    learning = [(i, j) for i, j in pairs if max(i, j) >= models.frozen]
    rises = [loss_of(models.members[i](moved[j])) - losses[i] for i, j in learning]
    if not rises:
        return torch.zeros_like(losses[0])
    every = torch.stack(rises)
    if not on_host(every):  # asking which they are would cost more than their backward passes
        return torch.where(every <= 0, 0.0, every).sum() / len(pairs)
    # What max() would cut off has no gradient; leaving it out saves its backward pass. NaN stays.
    counted = [rise for rise, cut in zip(rises, (every <= 0).tolist(), strict=True) if not cut]
    return torch.stack([*counted, torch.zeros_like(losses[0])]).sum() / len(pairs)


def _cross_entropy(logits: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(precise, y, label_smoothing=label_smoothing)


def _slope(value: Tensor, x: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(value, x, create_graph=True)
    return slope


def _unit(slope: Tensor) -> Tensor:
    """Of length 1 per image and channel, over (H,W); a zero slope stays 0 and has no gradient. Slopes of confident answers are
    so small that their squares vanish in float32, so they are scaled first."""
    high = slope.detach().abs().amax((2, 3), keepdim=True)
    alive = high > SMALLEST
    scaled = torch.where(alive, slope / torch.where(alive, high, 1), 0)
    return scaled / torch.where(alive, (scaled.square().sum((2, 3), keepdim=True) + ~alive).sqrt(), 1)


def _chosen(n: int, sampled: int | None) -> list[int]:
    """The models of this step's transfer losses, from torch's generator as the training loop seeds it."""
    if sampled is None or sampled >= n:
        return list(range(n))
    return sorted(torch.randperm(n)[:sampled].tolist())


def _check(weights: dict[str, float], sampled: int | None, n: int, grad_reduction: str) -> None:
    for name, weight in weights.items():
        if not weight >= 0:
            raise BenchError(f"recipe.loss.{name}={weight} must be at least 0; 0 leaves that loss out")
    if sampled is not None and not 2 <= sampled <= n:
        raise BenchError(f"recipe.loss.sampled={sampled} must lie between 2 and model.members={n}, or be null for all")
    if grad_reduction not in REDUCTIONS:
        raise BenchError(
            f"recipe.loss.grad_reduction={grad_reduction} is unknown; it is one of {', '.join(REDUCTIONS)}"
        )
