"""What the audit's protocol speaks of, versioned so that two audits compare: how much effort, of whom, a step. Imports no
torch."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from bench.core.errors import BenchError, nearest

VERSION = 5
LEAST_PROBE = 200  # queries of a second opinion's first try
Part = Literal["sanity", "white-box", "transfer", "score", "label", "control"]


@dataclass(frozen=True)
class Level:
    """How much effort. samples: the first so many of the cell's order (None: all)."""

    name: str
    samples: int | None
    queries: int
    steps: int
    restarts: int  # of APGD on cross-entropy
    draws: tuple[int, ...]  # EOT's, raised as long as more of them break more
    rounds: int  # of APGD-T
    averaged: tuple[int, int]  # APGD-T's steps and draws, where each step averages over draws
    tried: int | None  # so many images that stand: on them gradients compete, and second opinions begin
    fab: int | None  # the first so many images that FAB gets (0: none, None: all)
    checked: int | None  # the first so many that sanity and controls get
    surrogates: bool  # are networks trained to transfer from, and to go back through?

    @property
    def probe(self) -> int:
        """Queries that a second opinion gets at first; the whole budget only where they break something."""
        return min(self.queries, max(self.queries // 20, LEAST_PROBE))


LEVELS = {
    each.name: each
    for each in (
        Level("quick", 50, 1000, 40, 2, (5, 20, 40), 1, (30, 3), None, 0, 25, False),
        Level("standard", 1000, 5000, 100, 3, (5, 20, 80, 320), 1, (30, 3), 50, 25, 50, True),
        Level("full", None, 20000, 200, 10, (5, 20, 80, 320, 1280), 5, (100, 5), 500, None, None, True),
    )
}


@dataclass(frozen=True)
class Subject:
    """What the protocol must know of a defence."""

    bare: bool  # no defence around the network
    stochastic: bool
    coupled: bool
    differentiable: bool
    adapts: bool  # itself to each batch (DENT)
    true_gradient: bool  # differentiable, and autograd's gradient is that of the answers
    kinds: tuple[str, ...]  # the backward passes that it offers to BPDA
    norm: str
    samples: int
    classes: int = 10
    siblings: frozenset[str] = frozenset()  # other YAMLs of the same defence: noise, companions, copies
    defense: str = "none"  # its YAML
    refuses: bool = False  # queries that resemble earlier ones
    eps: Fraction = Fraction(8, 255)  # the threat's
    trained: bool = True  # the model's weights come of a recipe, so that one of another seed can be trained
    given: bool = False  # somebody's object: no config makes another like it
    single: bool = True  # one network, no set of them
    starts: Literal["train", "test"] = "train"  # the split that has images of other classes to start from
    logit_difference: float = 0.0  # mean l2 distance to the bare network's logits
    other: tuple[str, str] | None = ("cifar_small", "standard_small")  # a model of another architecture, and its recipe


@dataclass(frozen=True)
class Step:
    """One cell of the audit."""

    name: str
    part: Part
    words: tuple[str, ...]
    usual: bool = False  # what a usual evaluation runs and prints, on every image
    everyone: bool = False  # not only on the images that still stand
    first: int | None = None  # only of the first so many images
    most: int | None = None  # against so many of the images that it is for, no more
    counts: bool = True  # within the threat: what it breaks is broken
    adaptive: bool = False  # goes around the defence (BPDA), or averages over its draws (EOT)
    contest: str = ""  # steps of one contest get the same images: those that stand before the first of them
    of: str = ""  # the contestant that this one is run for
    winner: bool = False  # only for the contestant that broke most
    after: str = ""  # only where that step broke an image
    beside: str = ""  # that step on the same images at the threat's eps: at a larger one no more images may stand
    skipped: str = ""  # why it isn't run


def level(name: str) -> Level:
    if name not in LEVELS:
        raise BenchError(f"level={name} is unknown; it is one of {', '.join(LEVELS)}{nearest(name, LEVELS)}")
    return LEVELS[name]


def command(typed: Sequence[str], level: str) -> str:
    """That regenerates the audit."""
    return shlex.join(["python", "-m", "bench.audit", *typed, f"level={level}"])
