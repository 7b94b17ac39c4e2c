"""Images crafted on source networks, as artifacts: made once, block by block of the cell's order, replayed on every victim.

attack:
  sources: {a: {model: ..., recipe: ..., defense: ..., seed: 1}, ...}   # whole groups; of an untrained one model alone will do
  craft: {_target_: attacks.gradient..., oracle: ..., ...}     # a white-box attack and its oracle, on the mean of the sources
  labels: truth | prediction                                   # what it drives the sources away from
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attacks.base import Oracle, Rows
from attacks.oracles.fused import Fused
from attacks.oracles.gradients import Ensemble
from bench.assemble import networks
from bench.assemble.networks import build_victim
from bench.assemble.strength import check_classes, without_luck
from bench.config import key
from bench.config.instantiate import make
from bench.config.network_specs import DefenseSpec, SourceSpec
from bench.config.specs import AttackSpec, CellSpec
from bench.core import success
from bench.core.errors import BenchError
from bench.core.place import Place
from bench.core.rng import Stream, keys
from bench.data.samples import Samples
from bench.models.split import Split
from bench.store import artifacts

BLOCK = 64  # images of one artifact, so that a larger n only adds some
NO_DEFENSE = DefenseSpec.model_validate({"_target_": "defenses.none.Undefended", "version": 1})


@dataclass
class Crafted:
    """(B,) sample numbers -> (B,C,H,W), crafting what is missing."""

    spec: CellSpec
    test: Samples
    store: Place  # of artifacts
    given: Split | None = None  # the victim's network, where it is somebody's object
    blocks: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        goal, attack = self.spec.threat.goal, self.spec.attack
        if goal not in ("untargeted", "random"):
            raise BenchError(
                f"threat.goal={goal} depends on the victim's answers; replayed images know untargeted and random"
            )
        if not attack.sources:
            raise BenchError("attack.sources is empty: name at least one network to craft on")
        if attack.craft is None or attack.craft.oracle is None:
            raise BenchError("attack.craft is no white-box attack; set attack@attack.craft=transfer_pgd, say")
        self.craft: AttackSpec = attack.craft
        self.place = {number: i for i, number in enumerate(self.test.numbers(list(range(len(self.test)))).tolist())}

    def __call__(self, sample: Tensor) -> Tensor:
        at = [self.place[number] for number in sample.tolist()]
        wanted = sorted({p // BLOCK for p in at} - set(self.blocks))
        for i, number in enumerate(wanted):
            self.blocks[number] = self._load(number, wanted[i + 1 :])
        return torch.stack([self.blocks[p // BLOCK][p % BLOCK] for p in at])

    def _load(self, number: int, following: list[int]) -> Tensor:
        def build(folder: Path) -> None:
            """As many blocks as a network call holds, of those that are missing."""
            name = {n: key.of(self._content(n)) for n in following}
            missing = [n for n in following if not artifacts.there(self.store, "crafted", name[n])]
            first, *others = self._craft([number, *missing])
            _save(first, folder)
            for n, images in zip(
                missing, others, strict=False
            ):  # later than the first: no two processes wait for each other
                artifacts.need(self.store, "crafted", self._content(n), partial(_save, images))

        folder = artifacts.need(self.store, "crafted", self._content(number), build)
        return load_file(folder / "images.safetensors")["images"]

    def _content(self, number: int) -> dict[str, Any]:
        return identity(self.spec) | {"block": number, "size": BLOCK}

    def _craft(self, numbers: list[int]) -> list[Tensor]:
        """The images of the first of these blocks, as many of them as whole calls hold."""
        spec, device = self.spec, self.test.device
        # no goal here asks what a victim thinks
        attack = make(self.craft, threat=spec.threat)
        check_classes(attack, spec)
        # what an engine finds depends on who else is in its chunk
        together = 1 if getattr(attack, "chunk", None) else max(1, spec.numerics.rows // BLOCK)
        parts = [self._positions(number) for number in numbers[:together]]
        positions = [position for part in parts for position in part]
        x, y, sample = (part(positions) for part in (self.test.images, self.test.labels, self.test.numbers))
        nothing = torch.zeros(len(y), spec.dataset.classes, device=device)
        oracle, random = self._oracle(attack)
        attack = without_luck(attack) if random else attack
        target = success.targets(spec.threat.goal, y, nothing, sample, spec.seed)
        rows = Rows(sample, y, target, keys(spec.seed, Stream.ATTACK, sample))
        if spec.attack.labels == "prediction":
            rows = rows._replace(y=oracle.logits(x, rows, torch.ones_like(y, dtype=torch.bool)).argmax(1))
        found = attack(oracle, x, rows)
        return list(found.image.cpu().split([len(part) for part in parts]))

    def _positions(self, number: int) -> list[int]:
        return list(range(number * BLOCK, min((number + 1) * BLOCK, len(self.test))))

    def _oracle(self, attack: Any) -> tuple[Oracle, bool]:
        """-> where the gradients come from, and is any source random?"""
        members, random = [], False
        for name, source in (self.spec.attack.sources or {}).items():
            beside = beside_source(self.spec, source, f"attack.sources.{name}")
            given = self.given if source.model == self.spec.model else None
            network, _ = networks.deployed(beside, self.test, self.store, given)
            victim = build_victim(beside, network, self.test, self.store)
            if victim.defense.group is not None:
                raise BenchError("attack.sources: a defence whose rows share a batch can't be a source")
            members.append(attack.oracle(victim=victim))
            random = random or victim.defense.traits.stochastic
        by = self.spec.attack.fuse
        if len(members) == 1:
            return members[0], random
        return Ensemble(members) if by in (None, "losses") else Fused(members, by), random


def _save(images: Tensor, folder: Path) -> None:
    save_file({"images": images.contiguous()}, folder / "images.safetensors")


def beside_source(spec: CellSpec, source: SourceSpec, place: str) -> CellSpec:
    """The cell with a source in the victim's place. Its recipe is its own: the victim's is in no key of the images."""
    if source.model.trained and source.recipe is None:
        raise BenchError(f"{place} is trained, so it needs a recipe of its own: recipe@{place}.recipe=...")
    return spec.beside(source, place).replace(defense=source.defense or NO_DEFENSE)


def identity(spec: CellSpec) -> dict[str, Any]:
    """What the images depend on; not the victim."""
    whole = spec.identity()
    kept = {name: whole[name] for name in ("dataset", "samples", "threat", "attack", "numerics", "seed")}
    return {"kind": "crafted"} | kept
