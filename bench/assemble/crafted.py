"""Images crafted on source networks, as artifacts: made once, block by block of the cell's order, replayed on every victim.

attack:
  sources: {a: {model: ..., recipe: ..., defense: ..., seed: 1}, ...}   # whole groups; of an untrained one model alone will do
  craft: {_target_: attacks.gradient..., oracle: ..., ...}     # a white-box attack and its oracle, on the mean of the sources
  labels: truth | prediction                                   # what it drives the sources away from
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from attacks.base import Oracle, Rows
from attacks.oracles.gradients import Ensemble
from bench.assemble import build
from bench.config import identity as identities
from bench.core import success, threat
from bench.core.errors import BenchError
from bench.core.rng import Stream, keys
from bench.store import artifacts

BLOCK = 64  # images of one artifact, so that a larger n only adds some
NO_DEFENSE = {"_target_": "defenses.none.Undefended", "version": 1}


@dataclass
class Crafted:
    """(B,) sample numbers -> (B,C,H,W), crafting what is missing."""

    config: Mapping[str, Any]
    test: build.Samples
    blocks: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        goal = self.config["threat"]["goal"]
        if goal not in ("untargeted", "random"):
            raise BenchError(
                f"threat.goal={goal} depends on the victim's answers; replayed images know untargeted and random"
            )
        if self.config["attack"]["labels"] not in ("truth", "prediction"):
            raise BenchError(f"attack.labels={self.config['attack']['labels']}: it is truth or prediction")
        if not self.config["attack"]["sources"]:
            raise BenchError("attack.sources is empty: name at least one network to craft on")
        self.place = {number: i for i, number in enumerate(self.test.numbers(list(range(len(self.test)))).tolist())}
        self.whole = identity(self.config)

    def __call__(self, sample: Tensor) -> Tensor:
        at = [self.place[number] for number in sample.tolist()]
        for number in sorted({p // BLOCK for p in at} - set(self.blocks)):
            self.blocks[number] = self._load(number)
        return torch.stack([self.blocks[p // BLOCK][p % BLOCK] for p in at])

    def _load(self, number: int) -> Tensor:
        content = self.whole | {"block": number, "size": BLOCK}
        folder = artifacts.need(
            Path(self.config["artifacts"]), "crafted", content, lambda folder: self._craft(folder, number)
        )
        return load_file(folder / "images.safetensors")["images"]

    def _craft(self, folder: Path, number: int) -> None:
        config, device = self.config, self.test.device
        positions = list(range(number * BLOCK, min((number + 1) * BLOCK, len(self.test))))
        x, y, sample = (part(positions) for part in (self.test.images, self.test.labels, self.test.numbers))
        oracle = self._oracle()
        nothing = torch.zeros(
            len(y), config["dataset"]["classes"], device=device
        )  # no goal here asks what a victim thinks
        target = success.targets(config["threat"]["goal"], y, nothing, sample, config["seed"])
        rows = Rows(sample, y, target, keys(config["seed"], Stream.ATTACK, sample))
        if config["attack"]["labels"] == "prediction":
            rows = rows._replace(y=oracle.look(x, rows, torch.ones_like(y, dtype=torch.bool)).argmax(1))
        found = build.make(config["attack"]["craft"], threat=threat.read(config["threat"]))(oracle, x, rows)
        save_file({"images": found.image.contiguous().cpu()}, folder / "images.safetensors")

    def _oracle(self) -> Oracle:
        members = []
        for source in self.config["attack"]["sources"].values():
            config = dict(self.config) | source_groups(self.config, source)
            network, _ = build.model(config, identities.identity(config), self.test.device, self.test)
            victim = build.victim(config, network, self.test.device, int(self.test.source.ids.max()))
            if victim.defense.group is not None:
                raise BenchError("attack.sources: a defence whose rows share a batch can't be a source")
            members.append(build.make(self.config["attack"]["craft"]["oracle"], victim=victim))
        return members[0] if len(members) == 1 else Ensemble(members)


def source_groups(config: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    known = {"model", "recipe", "defense", "seed"}
    if "model" not in source or set(source) - known:
        raise BenchError(
            f"attack.sources: a source has a model, and may have a recipe, a defense and a seed; this has {list(source)}"
        )
    if (
        "recipe" not in source and source["model"]["weights"] in identity.TRAINED
    ):  # the victim's is in no key of the images
        raise BenchError(
            "attack.sources: a source that is trained needs a recipe of its own: recipe@attack.sources.a.recipe=..."
        )
    return {"defense": NO_DEFENSE, "recipe": config["recipe"]} | dict(source)


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the images depend on; not the victim."""
    whole = identities.identity(config)
    kept = {name: whole[name] for name in ("dataset", "samples", "threat", "attack", "numerics", "seed")}
    return {"kind": "crafted"} | kept
