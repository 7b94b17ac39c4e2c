"""Images crafted on source networks, as artifacts: made once, block by block of the cell's order, replayed on every victim.

attack:
  sources: {a: {model: ..., recipe: ..., defense: ..., seed: 1}, ...}   # whole groups; of an untrained one model alone will do
  craft: {_target_: attacks.gradient..., oracle: ..., ...}     # a white-box attack and its oracle, on the mean of the sources
  labels: truth | prediction                                   # what it drives the sources away from
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attacks.base import Oracle, Rows
from attacks.oracles.fused import Fused
from attacks.oracles.gradients import Ensemble
from bench.assemble import networks
from bench.assemble.strength import check_classes, without_luck
from bench.assemble.victim import build_victim
from bench.config.instantiate import make
from bench.config.specs import AttackSpec, CellSpec, DefenseSpec, SourceSpec
from bench.core import success
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys
from bench.data.samples import Samples
from bench.store import artifacts

BLOCK = 64  # images of one artifact, so that a larger n only adds some
NO_DEFENSE = DefenseSpec.model_validate({"_target_": "defenses.none.Undefended", "version": 1})


@dataclass
class Crafted:
    """(B,) sample numbers -> (B,C,H,W), crafting what is missing."""

    spec: CellSpec
    test: Samples
    store: Path  # of artifacts
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
        for number in sorted({p // BLOCK for p in at} - set(self.blocks)):
            self.blocks[number] = self._load(number)
        return torch.stack([self.blocks[p // BLOCK][p % BLOCK] for p in at])

    def _load(self, number: int) -> Tensor:
        content = identity(self.spec) | {"block": number, "size": BLOCK}
        folder = artifacts.need(self.store, "crafted", content, lambda folder: self._craft(folder, number))
        return load_file(folder / "images.safetensors")["images"]

    def _craft(self, folder: Path, number: int) -> None:
        spec, device = self.spec, self.test.device
        positions = list(range(number * BLOCK, min((number + 1) * BLOCK, len(self.test))))
        x, y, sample = (part(positions) for part in (self.test.images, self.test.labels, self.test.numbers))
        # no goal here asks what a victim thinks
        nothing = torch.zeros(len(y), spec.dataset.classes, device=device)
        attack = make(self.craft, threat=spec.threat)
        check_classes(attack, spec)
        oracle, random = self._oracle(attack)
        attack = without_luck(attack) if random else attack
        target = success.targets(spec.threat.goal, y, nothing, sample, spec.seed)
        rows = Rows(sample, y, target, keys(spec.seed, Stream.ATTACK, sample))
        if spec.attack.labels == "prediction":
            rows = rows._replace(y=oracle.logits(x, rows, torch.ones_like(y, dtype=torch.bool)).argmax(1))
        found = attack(oracle, x, rows)
        save_file({"images": found.image.contiguous().cpu()}, folder / "images.safetensors")

    def _oracle(self, attack: Any) -> tuple[Oracle, bool]:
        """-> where the gradients come from, and is any source random?"""
        members, random = [], False
        for name, source in (self.spec.attack.sources or {}).items():
            beside = beside_source(self.spec, source, f"attack.sources.{name}")
            network, _ = networks.deployed(beside, self.test, self.store)
            victim = build_victim(beside, network, self.test, self.store)
            if victim.defense.group is not None:
                raise BenchError("attack.sources: a defence whose rows share a batch can't be a source")
            members.append(attack.oracle(victim=victim))
            random = random or victim.defense.traits.stochastic
        by = self.spec.attack.fuse
        if len(members) == 1:
            return members[0], random
        return Ensemble(members) if by in (None, "losses") else Fused(members, by), random


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
