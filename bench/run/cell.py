"""One cell in four steps: prepare (data, network, defence, victim, attack), the clean pass, the attack, finish."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bench.assemble import networks
from bench.assemble.attack import build_attack, check_attack, give_surrogate, oracle_of
from bench.assemble.networks import build_victim
from bench.assemble.strength import fit_to
from bench.assemble.untrained import check_defense
from bench.config.instantiate import check
from bench.config.runtime import RuntimeSpec
from bench.config.specs import CellSpec
from bench.core import success
from bench.core.device import device_of
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.victim import Victim, check_rows
from bench.data import samples
from bench.data.samples import Samples
from bench.models.split import Split
from bench.run import cost, query, white_box
from bench.run.context import Clean, Run, first_answers, mates, side_by_side
from bench.run.progress import Line
from bench.store.provenance import cpu_name, device_name, provenance
from bench.store.records import Cell

Blocks = list[list[int]]  # positions of the cell's order that belong together


@dataclass(frozen=True)
class Prepared:
    """All that the records depend on, before the first answer."""

    cell: Cell
    clean: Cell
    test: Samples
    victim: Victim
    attack: Any  # None for the clean pass alone
    oracle: Any  # None for attacks that query or replay
    blocks: Blocks  # what this run does
    made: dict[str, Any]  # goes into every part


def run(config: Mapping[str, Any], line: Line | None = None, command: str = "bench.run.cell.run") -> str:
    """Runs what is missing of one cell, its clean pass first, and returns the cell's key.

    config: a composed, resolved conf/bench.yaml. Raises BenchError; finished samples are kept whatever happens.
    """
    return execute(CellSpec.parse(config), RuntimeSpec.parse(config), line or Line("cell"), command)


def execute(spec: CellSpec, runtime: RuntimeSpec, line: Line, command: str, given: Split | None = None) -> str:
    """`run`, of settings that are parsed. given: the network, where it is no config's but somebody's object."""
    ready = prepare(spec, runtime, command, given)
    known = clean_pass(spec, runtime, ready, line)
    if ready.attack is not None:
        attack(spec, runtime, ready, known, line)
    finish(spec, ready)
    return ready.cell.key


def prepare(spec: CellSpec, runtime: RuntimeSpec, command: str, given: Split | None = None) -> Prepared:
    """Settings that can't work are refused here, most of them before any training."""
    for node in [spec.dataset.source, spec.defense, *([spec.attack] if spec.attack.target else [])]:
        check(node)
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    device, n = device_of(runtime.device), spec.samples.n
    test = samples.load(spec.dataset, spec.samples, device)
    if n is not None and n > len(test):
        raise BenchError(f"samples.n={n}, but the data set has {len(test)}; set samples.n={len(test)} or null for all")
    cell, clean, data = Cell(runtime.store, spec.key), Cell(runtime.store, spec.clean_key), test.source.digest()
    for each in (clean, cell):  # before any training on other data
        each.check({"data": data})
    slots, rows = runtime.slots, spec.numerics.rows
    if slots is not None and spec.attack.queries and slots % rows and not spec.defense.fields().get("group"):
        raise BenchError(f"slots={slots} must be a multiple of numerics.rows={rows}, or null")
    if networks.will_train(spec, runtime.artifacts):
        check_defense(spec)
        check_attack(spec)
    network, weights = networks.deployed(spec, test, runtime.artifacts, given)
    victim = build_victim(spec, network, test, runtime.artifacts)
    made = {
        "data": data, "weights": weights, "device": device_name(device),
        "threads": torch.get_num_threads(), "cpu": cpu_name(), **provenance(),
    }  # fmt: skip
    for each in (clean, cell):  # before any work: a clean pass of another network would decide whom to attack
        each.check(made)
    if victim.defense.group is None:
        first = list(range(min(victim.rows, len(test))))
        check_rows(victim, test.images(first), test.numbers(first))
    attack = None
    if spec.attack.target:
        attack = build_attack(spec, network, test, runtime.artifacts, victim.queries_per_call, given)
        attack = fit_to(attack, victim)
    give_surrogate(spec, victim, test, runtime.artifacts)
    oracle = oracle_of(attack, victim)
    together = _together(spec, victim, attack, len(test))
    for each, what in ((clean, spec.clean_identity()), (cell, spec.identity())):
        about = {
            "config": what,
            "key": each.key,
            "samples_in_all": len(test),
            "anytime": bool(attack and getattr(attack, "anytime", False)),
            "needs_start": bool(getattr(attack, "needs_start", False)),
        }
        if each.key == clean.key and not clean.description():
            rows = together if victim.defense.group else victim.rows
            about["cost"] = cost.of(spec, network, test, runtime.artifacts, rows)
        each.describe(about | {"command": command} | provenance())
    blocks = _only(_blocks(n or len(test), len(test), together, runtime.shard), runtime.only)
    return Prepared(cell, clean, test, victim, attack, oracle, blocks, made)


def clean_pass(spec: CellSpec, runtime: RuntimeSpec, ready: Prepared, line: Line) -> Clean:
    """One answer for every sample, its logits stored; it serves all attacks on this victim."""
    work = Run(spec, runtime, ready.clean, ready.test, ready.victim, ready.made, line)
    done, test, victim = work.cell.positions(), work.samples, work.victim
    blocks = [block for block in ready.blocks if not done.issuperset(block)]
    if victim.defense.group is None:
        flat = [position for block in blocks for position in block]
        blocks = [flat[start : start + victim.rows] for start in range(0, len(flat), victim.rows)]
    else:
        blocks = list(side_by_side(work, blocks))
    records: list[dict[str, Any]] = []
    for block in blocks:
        positions = mates(work, block)
        number, y = test.numbers(positions), test.labels(positions)
        live = torch.arange(len(positions), device=y.device) < len(block)
        victim.defense.reset()
        x, draw = test.images(positions), Draw(victim.seed, number, torch.zeros_like(number), Stream.CLEAN)
        logits = victim.query(x, draw, live)
        victim.check_range()
        fine = success.defined(logits)
        if not records and not fine.any():
            raise BenchError(
                "the model answered NaN or inf logits for every image of its first call; check its weights and numerics.dtype"
            )
        columns = {
            "sample": number, "label": y, "clean": (logits.argmax(1) == y) & fine, "undefined": ~fine, "logits": logits,
        }  # fmt: skip
        plain = {name: column.tolist() for name, column in columns.items()}
        for i, position in enumerate(block):
            records.append(
                {name: column[i] for name, column in plain.items()} | {"position": position, "fooled": False}
            )
        if work.due(len(records)):
            work.write(records)
            records = []
    work.write(records)
    return first_answers(ready.clean, ready.blocks, test.device)


def attack(spec: CellSpec, runtime: RuntimeSpec, ready: Prepared, clean: Clean, line: Line) -> None:
    """The attack on the samples that the victim gets right, each finished one a record."""
    counted = ready.victim.ledger.totals()
    work = Run(spec, runtime, ready.cell, ready.test, ready.victim, ready.made, line, counted)
    if not spec.attack.queries:
        white_box.attack_all(work, ready.attack, ready.oracle, ready.blocks, clean)
    elif ready.victim.defense.group:
        query.grouped(work, ready.attack, ready.blocks, clean)
    else:
        query.independent(work, ready.attack, ready.blocks, clean)


def finish(spec: CellSpec, ready: Prepared) -> None:
    """Where all samples are there, all parts become one."""
    for each in (ready.clean, ready.cell):
        if each.complete(spec.samples.n):
            each.compact()


def _together(spec: CellSpec, victim: Victim, attack: Any, total: int) -> int:
    """Samples that one block holds: a group's, an engine's chunk, else 1."""
    group, n = victim.defense.group, spec.samples.n
    together = group.size if group else getattr(attack, "chunk", None) or 1
    if group is None and n is not None and n % together and n != total:
        raise BenchError(
            f"samples.n={n} cuts a chunk of the engine (attack.chunk={together}), on which its results depend; set "
            f"attack.chunk={n} or samples.n={n // together * together or together}"
        )
    return together


def _blocks(n: int, total: int, size: int, shard: tuple[int, int]) -> Blocks:
    """Whole groups, so that a sample's batch neighbours never depend on n; of those, this shard's."""
    part, of = shard
    return [list(range(start, min(start + size, total))) for start in range(0, n, size)][part - 1 :: of]


def _only(blocks: Blocks, positions: tuple[int, ...] | None) -> Blocks:
    """The blocks that hold some of the positions."""
    wanted = None if positions is None else set(positions)
    return blocks if wanted is None else [block for block in blocks if not wanted.isdisjoint(block)]
