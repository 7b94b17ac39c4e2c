"""One cell: data -> model -> defence -> victim -> attack -> records. The one place that knows them all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bench.assemble import build, crafted
from bench.config import identity, kinds
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.victim import check_rows
from bench.models.split import Split
from bench.run import cost, query, white_box
from bench.run.context import Run, first_answers, mates
from bench.run.progress import Line
from bench.store.provenance import device_name, provenance
from bench.store.records import Cell


def run(config: Mapping[str, Any], line: Line | None = None, command: str = "bench.run.cell.run") -> str:
    """Runs what is missing of one cell, its clean pass first, and returns the cell's key.

    config: a composed, resolved conf/bench.yaml. Raises BenchError; finished samples are kept whatever happens.
    """
    kinds.check("numerics", {"rows": int, "tf32": bool, "compile": bool, "channels_last": bool}, config["numerics"])
    if config["numerics"]["rows"] < 1:
        raise BenchError(f"numerics.rows={config['numerics']['rows']} must be at least 1")
    whole = identity.identity(config)
    store, line = Path(config["store"]), line or Line("cell")
    cell, clean = Cell(store, identity.of(whole)), Cell(store, identity.of(identity.clean(whole)))
    n = identity.samples(config)["n"]
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    device = build.device_of(config["device"])
    test = build.samples(config, device)
    if n is not None and n > len(test):
        raise BenchError(f"samples.n={n}, but the data set has {len(test)}; set samples.n={len(test)} or null for all")
    network, weights = build.model(config, whole, device, test)
    victim = build.victim(config, network, device, int(test.source.ids.max()))
    made = {
        "data": test.source.digest(), "weights": weights, "device": device_name(device),
        "threads": torch.get_num_threads(), "replaces": [], **provenance(),
    }  # fmt: skip
    for each in (clean, cell):  # before any work: a clean pass of another network would decide whom to attack
        each.check(made)
    group = victim.defense.group
    if group is None:
        first = list(range(min(victim.rows, len(test))))
        check_rows(victim, test.images(first), test.numbers(first))
    attack = oracle = None
    if whole["attack"] != identity.NO_ATTACK:  # bad settings are refused before any work
        images = crafted.Crafted(config, test) if "sources" in config["attack"] else None
        attack, oracle = build.attack(config, network, images), build.oracle(config, victim)
    together = group.size if group else getattr(attack, "chunk", None) or 1
    if group is None and n is not None and n % together and n != len(test):
        raise BenchError(
            f"samples.n={n} cuts a chunk of the engine (attack.chunk={together}), on which its results depend; set "
            f"attack.chunk={n} or samples.n={n // together * together or together}"
        )
    wanted = _wanted(n or len(test), len(test), together, config["shard"])
    for each, what in ((clean, identity.clean(whole)), (cell, whole)):
        about = {
            "config": what,
            "key": each.key,
            "samples_in_all": len(test),
            "anytime": bool(attack and getattr(attack, "anytime", False)),
        }
        if each.key == clean.key and not clean.description():
            about["cost"] = _cost(config, network, test, group.size if group else victim.rows)
        each.describe(about | {"command": command} | provenance())
    work = Run(config, clean, test, victim, made, line)
    _clean(work, wanted)
    if attack is not None:
        work = Run(config, cell, test, victim, made, line, told=victim.ledger.totals())
        answers = first_answers(clean, wanted, device)
        if not identity.asks(config["attack"]):
            white_box.attack_all(work, attack, oracle, wanted, answers)
        else:
            (query.grouped if group else query.independent)(work, attack, wanted, answers)
    for each in (clean, cell):
        if each.complete(n):
            each.compact()
    return cell.key


def _cost(config: Mapping[str, Any], network: Split, test: build.Samples, rows: int) -> dict[str, Any]:
    """Of a victim of its own, so that no ledger counts these rows."""
    victim = build.victim(config, network, test.device, 0)
    return cost.measure(victim, test.images([i % len(test) for i in range(rows)]))


def _wanted(n: int, total: int, size: int, shard: str) -> list[list[int]]:
    """Positions of the cell's order in blocks that belong together: whole groups, so that a sample's mates never depend on n."""
    part, of = _shard(shard)
    blocks = [list(range(start, min(start + size, total))) for start in range(0, n, size)]
    return blocks[part - 1 :: of]


def _shard(text: str) -> tuple[int, int]:
    part, _, of = str(text).partition("/")
    if not (part.isdigit() and of.isdigit() and 1 <= int(part) <= int(of)):
        raise BenchError(f"shard={text} must be part/parts with 1 <= part <= parts, such as shard=3/8")
    return int(part), int(of)


def _clean(work: Run, wanted: list[list[int]]) -> None:
    """One answer for every sample, its logits stored; it serves all attacks on this victim."""
    done, samples, victim = work.cell.positions(), work.samples, work.victim
    blocks = [block for block in wanted if not done.issuperset(block)]
    if victim.defense.group is None:
        flat = [position for block in blocks for position in block]
        blocks = [flat[start : start + victim.rows] for start in range(0, len(flat), victim.rows)]
    records: list[dict[str, Any]] = []
    for block in blocks:
        positions = mates(work, block)
        number, y = samples.numbers(positions), samples.labels(positions)
        live = torch.arange(len(positions), device=y.device) < len(block)
        victim.defense.reset()
        logits = victim.answer(
            samples.images(positions), Draw(victim.seed, number, torch.zeros_like(number), Stream.CLEAN), live
        )
        right = logits.argmax(1) == y
        for i, position in enumerate(block):
            records.append(
                {
                    "sample": int(number[i]), "position": position, "label": int(y[i]), "clean": bool(right[i]),
                    "fooled": False, "logits": logits[i].tolist(),
                }
            )  # fmt: skip
        if work.due(len(records)):
            work.write(records)
            records = []
    work.write(records)
