"""What a defence is, by experiment: its traits as declared and as seen, its clean accuracy, its cost."""

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks.losses import margin
from bench.assemble import networks
from bench.assemble.networks import build_victim
from bench.config.runtime import RuntimeSpec
from bench.config.specs import CellSpec
from bench.core.device import device_of
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream, keys, mix, signs, uniform
from bench.core.victim import Victim
from bench.data import samples
from bench.models.split import Split
from bench.run import cost

DRAWS = 10  # of a random defence, for its clean accuracy
MANY = 2048  # rows that a defence answers before the first question is repeated
PROBED = 8  # images whose gradient is held against finite differences
AGREEMENT = 0.5  # with finite differences; below it a gradient is not that of the answers


@dataclass(frozen=True)
class Facts:
    """gradient: how far autograd's directional derivatives are those of the answers (1: they are; None: no autograd)."""

    traits: dict[str, bool]
    kinds: tuple[str, ...]
    clean: tuple[float, ...]  # accuracy of each draw, percent
    logit_difference: float  # mean l2 distance to the bare network's
    parameters: int
    macs: float
    slowdown: float  # time of an answer, over the bare network's
    gradient: float | None
    samples: int  # all that the data set has, or that the cell takes
    adapts: bool
    notes: tuple[str, ...] = field(default=())
    refuses: bool = False


class _Bench:
    """A victim with its first images: a fresh one forgets all that an earlier one was asked."""

    def __init__(self, spec: CellSpec, runtime: RuntimeSpec, given: Split | None) -> None:
        self.spec, self.runtime = spec, runtime
        if runtime.threads:
            torch.set_num_threads(runtime.threads)
        self.test = samples.load(spec.dataset, spec.samples, device_of(runtime.device))
        self.n = len(self.test) if spec.samples.n is None else min(spec.samples.n, len(self.test))
        network, _ = networks.deployed(spec, self.test, runtime.artifacts, given)
        self.network: Split = network

    def victim(self) -> Victim:
        return build_victim(self.spec, self.network, self.test, self.runtime.artifacts)

    def positions(self, victim: Victim) -> list[int]:
        """The first images: a whole group where rows share a batch."""
        group = victim.defense.group
        size = group.size if group else min(self.n, victim.rows)
        return [i % len(self.test) for i in range(size)]


def _ask(victim: Victim, x: Tensor, number: Tensor, nth: int, stream: Stream = Stream.CLEAN) -> Tensor:
    draw = Draw(victim.seed, number, torch.full_like(number, nth), stream)
    return victim.query(x, draw, torch.ones_like(number, dtype=torch.bool))


def find(spec: CellSpec, runtime: RuntimeSpec, given: Split | None = None) -> Facts:
    """given: the network, where it is somebody's object. Raises BenchError where a trait is declared falsely, with what was
    seen."""
    bench = _Bench(spec, runtime, given)
    victim = bench.victim()
    defense, positions = victim.defense, bench.positions(victim)
    x, number = bench.test.images(positions), bench.test.numbers(positions)
    name, traits = type(defense).__name__, defense.traits
    notes = [*_same_answer_twice(victim, x, number, name), *_depends_on_the_past(bench, x, number, name)]
    gradient = None
    if traits.differentiable and not traits.coupled:
        gradient = _gradient_agrees(victim, x[:PROBED], number[:PROBED])
        if gradient < AGREEMENT:
            notes.append(f"autograd's gradient is not that of the answers (agreement {gradient:.2f} of 1)")
    measured = cost.of(spec, bench.network, bench.test, runtime.artifacts, len(x))
    clean, distance = _clean(bench)
    return Facts(
        traits={each: getattr(traits, each) for each in ("stochastic", "coupled", "stateful", "differentiable")},
        kinds=defense.kinds,  # pyright: ignore[reportAttributeAccessIssue]
        clean=clean,
        logit_difference=distance,
        parameters=int(measured["parameters"]),
        macs=float(measured["macs"]),
        slowdown=_slowdown(victim, x, number),
        gradient=gradient,
        samples=bench.n,
        adapts=hasattr(defense, "fit"),
        notes=tuple(notes),
        refuses=traits.refuses,
    )


def _same_answer_twice(victim: Victim, x: Tensor, number: Tensor, name: str) -> list[str]:
    """The same images with the same draw, then with another."""
    traits, answers = victim.defense.traits, list[Tensor]()
    for nth in (0, 0, 1):
        victim.defense.reset()
        answers.append(_ask(victim, x, number, nth))
    first, again, other = answers
    if not torch.equal(first.nan_to_num(), again.nan_to_num()):
        raise BenchError(
            f"{name}: the same images with the same draw get other answers (by up to {float((first - again).abs().max()):.2g}): "
            "its noise is not keyed (use draw.key()), or `reset` does not forget"
        )
    differs = not torch.equal(first.nan_to_num(), other.nan_to_num())
    if differs and not traits.stochastic:
        raise BenchError(
            f"{name} declares Traits(stochastic=False), but another draw answers otherwise (by up to "
            f"{float((first - other).abs().max()):.2g}); declare stochastic=True"
        )
    return (
        ["declares stochastic=True, but another draw gave the same answers"]
        if traits.stochastic and not differs
        else []
    )


def _depends_on_the_past(bench: _Bench, x: Tensor, number: Tensor, name: str) -> list[str]:
    """Does a noisy image get another answer once the clean one, or very much else, has been asked?"""
    victim = bench.victim()
    noise = signs(keys(1, Stream.ATTACK, number), 63)[:, :1].view(-1, 1, 1, 1)  # one sign an image
    width = x[0].numel()
    pattern = uniform(mix(keys(2, Stream.ATTACK, number)), width).view_as(x) - 0.5
    near = (x + noise * pattern * 2 * 8 / 255).clamp(0, 1)
    first = _ask(victim, near, number, 0)
    after_near = _ask(victim, x, number, 0)
    other = bench.victim()  # asked the other way round
    before = _ask(other, x, number, 0)
    after = _ask(other, near, number, 0)
    pairs = (
        (first, after, "once it has seen the clean image"),
        (before, after_near, "once it has seen an image near by"),
    )
    seen = next((words for one, two, words in pairs if not torch.equal(one.nan_to_num(), two.nan_to_num())), "")
    for nth in range(1, 1 + MANY // len(x)):
        _ask(victim, near, number, nth)
    late = _ask(victim, x, number, 0)
    if not seen and not torch.equal(before.nan_to_num(), late.nan_to_num()):
        seen = f"after {MANY:,} more queries"
    talking, silent = bench.victim(), bench.victim()
    _ask(talking, x, number, 0, Stream.DEFENCE)
    observed, alone = (_ask(each, x, number, 1, Stream.DEFENCE) for each in (talking, silent))
    if not seen and not torch.equal(observed.nan_to_num(), alone.nan_to_num()):
        seen = "once its attacker has asked the same image"
    if seen and not victim.defense.traits.stateful:
        raise BenchError(
            f"{name} declares Traits(stateful=False), but answers the same image with the same draw otherwise {seen}: it "
            "remembers what it was asked; declare stateful=True, and `reset` must forget"
        )
    return [f"remembers: it answers otherwise {seen}"] if seen else []


def _gradient_agrees(victim: Victim, x: Tensor, number: Tensor) -> float:
    """1: over images and directions, autograd's directional derivatives are the central differences; 0: one says nothing of the
    other, be it by its sign or its size."""
    h, draw = 1e-3, Draw(victim.seed, number, torch.zeros_like(number), Stream.CLEAN)
    inside = 0.01 + 0.98 * x
    label = victim.forward(inside, draw).argmax(1)
    untargeted, everyone = torch.full_like(label, -1), torch.ones_like(label, dtype=torch.bool)
    grad = victim.gradient(inside, draw, label, untargeted, margin, everyone, victim.defense).grad
    exact, numeric = list[Tensor](), list[Tensor]()
    for nth in range(8):
        key = mix(keys(3, Stream.ATTACK, number), torch.full_like(number, nth))
        direction = (uniform(key, x[0].numel()) > 0.5).float().view_as(x) * 2 - 1
        if nth == 0:
            direction = grad.nan_to_num().sign()  # where the slope is largest
        ahead, behind = (margin(victim.forward(inside + s * h * direction, draw), label, untargeted) for s in (1, -1))
        exact.append((grad.nan_to_num() * direction).flatten(1).double().sum(1))
        numeric.append(((ahead - behind) / (2 * h)).double())
    ours, seen = torch.cat(exact), torch.cat(numeric)
    scale = torch.maximum(ours.abs().max(), seen.abs().max())
    if scale == 0:
        return 0.0
    ours, seen = ours / scale, seen / scale  # squares of 1e30 are no floats
    return float(1 - ((ours - seen) ** 2).sum() / torch.maximum((ours**2).sum(), (seen**2).sum()))


def _clean(bench: _Bench) -> tuple[tuple[float, ...], float]:
    """Accuracy of each draw in percent, and the mean distance of the first draw's logits to the bare network's."""
    victim = bench.victim()
    size = victim.defense.group.size if victim.defense.group else victim.rows
    times = DRAWS if victim.defense.traits.stochastic else 1
    hits, far, total = [0] * times, 0.0, 0
    for start in range(0, bench.n, size):
        real = list(range(start, min(start + size, bench.n)))
        padded = real + [i % len(bench.test) for i in range(size - len(real))] if victim.defense.group else real
        x, y, number = bench.test.images(padded), bench.test.labels(real), bench.test.numbers(padded)
        for nth in range(times):
            victim.defense.reset()
            logits = _ask(victim, x, number, nth)[: len(real)]
            hits[nth] += int((logits.argmax(1) == y).sum())
            if nth == 0:
                with torch.no_grad():
                    far += float((logits - victim.defense.model(x)[: len(real)]).norm(dim=1).sum())
        total += len(real)
    return tuple(100 * each / total for each in hits), far / total


def _slowdown(victim: Victim, x: Tensor, number: Tensor) -> float:
    def seconds(defended: bool) -> float:
        best = float("inf")
        for nth in range(4):  # the first warms up
            began = time.perf_counter()
            with torch.no_grad():
                _ = _ask(victim, x, number, nth) if defended else victim.defense.model(x)
            if x.device.type == "cuda":
                torch.cuda.synchronize(x.device)
            best = min(best, time.perf_counter() - began) if nth else best
        return best

    return seconds(True) / seconds(False)
