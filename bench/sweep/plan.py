"""What a grid will cost before it runs: cells, trainings, network passes at most, hours by a probe of two batches a network."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from bench.assemble import crafted
from bench.assemble.untrained import untrained
from bench.config import key, needed
from bench.config.grid import GridCell
from bench.config.specs import AttackSpec, CellSpec
from bench.core.device import device_of
from bench.core.errors import BenchError
from bench.core.place import Place
from bench.store import artifacts, look
from bench.store.records import Cell

BACKWARD = 2  # a backward pass costs as much as two forward ones
RECORD = 400  # bytes that a record takes on disk, logits and trace aside


@dataclass(frozen=True)
class Plan:
    cells: int
    missing: int
    trainings: int  # networks whose weights are not there yet: the cells' own, and those that defences, attacks and recipes need
    epochs: int  # of those, added up
    forward: int  # network rows at most: no image falls early
    backward: int
    seconds: float | None  # of the attacks; None: some network could not be built here
    disk: int  # bytes
    not_built: tuple[str, ...]
    training: int = 0  # network rows of the trainings, each forward and backward


def plan(cells: Sequence[GridCell], probe: bool = True) -> Plan:
    """Upper bounds, but for what a defence asks of itself: DENT's steps, the passes of g through f_b. Images that are crafted
    once for many victims count once. Trainings are counted, not timed: their data sets need not be here. probe: time two
    batches of each network."""
    distinct = _distinct(look.cells(cells))
    missing = [cell for cell in distinct.values() if not _complete(cell)]
    wanted = _untrained(missing)
    rates: dict[str, float | None] = {}
    forward = backward = samples = 0
    seconds, not_built = 0.0, dict[str, None]()
    for cell in missing:
        n = images(cell.spec)
        ahead, behind = passes(cell.spec)
        forward, backward, samples = forward + n * ahead, backward + n * behind, samples + n
        name = key.of(cell.spec.model.plain() | {"numerics": cell.spec.numerics.plain()})
        if name not in rates:
            rates[name] = _rate(cell) if probe else None
        rate = rates[name]
        if rate is None and probe:
            not_built[cell.choices.get("model", name)] = None
        elif rate is not None:
            seconds += n * (ahead + BACKWARD * behind) / rate
    made = _crafting(missing)
    forward, backward = forward + made, backward + made
    return Plan(
        cells=len(distinct),
        missing=len(missing),
        trainings=len(wanted),
        epochs=sum(each.recipe.epochs for each in wanted if each.recipe),
        forward=forward,
        backward=backward,
        seconds=seconds if seconds or (probe and not not_built) else None,
        disk=samples * RECORD,
        not_built=tuple(not_built),
        training=sum(training_rows(each) for each in wanted),
    )


def _untrained(missing: Sequence[GridCell]) -> list[CellSpec]:
    """Of all networks that the cells take, those whose weights are still to be made."""
    found: dict[str, tuple[CellSpec, Place]] = {}
    for cell in missing:
        for network in needed.networks(cell.spec):
            if network.model.trained:
                found.setdefault(key.of(network.weights_identity()), (network, cell.runtime.artifacts))
    return [network for name, (network, there) in found.items() if not artifacts.there(there, "weights", name)]


def _distinct(cells: Sequence[GridCell]) -> dict[str, GridCell]:
    """By key; of cells that differ in n alone, which is no part of it, the largest."""
    found: dict[str, GridCell] = {}
    for cell in cells:
        known = found.get(cell.key)
        if known is None or images(cell.spec) > images(known.spec):
            found[cell.key] = cell
    return found


def images(spec: CellSpec) -> int:
    """n, or where it is null what the data set's YAML says that its test split has; 10,000 where that says nothing."""
    return spec.samples.n or _split(spec, "test", 10_000)


def _split(spec: CellSpec, name: str, usual: int) -> int:
    counted = spec.dataset.source.fields().get("images")
    value = counted.get(name) if isinstance(counted, Mapping) else None
    return value if isinstance(value, int) else usual


def training_rows(spec: CellSpec) -> int:
    """Epochs x images x members x (1 + steps of what the loss attacks with); a disjoint set's pairs of members, too."""
    recipe = spec.recipe
    assert recipe is not None
    fields = recipe.loss.fields()
    inner = fields.get("attack") if isinstance(fields.get("attack"), Mapping) else fields
    steps = inner.get("steps", 0) if isinstance(inner, Mapping) else 0
    members = spec.model.members or 1
    rows = members * (1 + (steps if isinstance(steps, int) else 0))
    if "transfer_1" in fields:  # two transfer losses over ordered pairs of the members drawn
        drawn = fields.get("sampled") or members
        rows += 2 * drawn * (drawn - 1)
    return recipe.epochs * (recipe.images or _split(spec, "train", 50_000)) * rows


def _crafting(missing: Sequence[GridCell]) -> int:
    """Gradients for images that are replayed, once for all victims that they are sent to."""
    made: dict[str, int] = {}
    for cell in missing:
        attack = cell.spec.attack
        if attack.sources is not None and attack.craft is not None:
            name = key.of(crafted.identity(cell.spec))
            made[name] = max(made.get(name, 0), images(cell.spec) * _steps(attack.craft) * len(attack.sources))
    return sum(made.values())


def passes(spec: CellSpec) -> tuple[int, int]:
    """(forward, backward) of one image at most, its clean pass and judging answer with it."""
    if spec.attack.target is None:
        return 1, 0
    if spec.attack.queries:
        return 1 + spec.threat.queries + spec.re_evaluations, 0
    steps = _steps(spec.attack)
    return 2 + steps + spec.re_evaluations, steps


def _steps(attack: AttackSpec) -> int:
    """Gradients that a white-box attack asks for: the product of its loops."""
    if attack.sources is not None:  # crafted once, elsewhere
        return 0
    fields, total = attack.fields(), 1
    for name in ("steps", "restarts", "searches", "targets", "rounds"):
        value = fields.get(name)
        total *= value if isinstance(value, int) and value > 0 else 1
    if "steps" not in fields:  # an engine: 100 steps for each of its parts, nine targets for those that aim
        parts = fields.get("attacks") or ["apgd-ce", "apgd-t", "fab-t", "square"]
        total = sum(900 if str(part).endswith("-t") else 100 for part in parts)
    return total * _draws(fields.get("oracle"))


def _draws(oracle: object) -> int:
    return int(oracle.get("samples", 1)) if isinstance(oracle, dict) else 1


def _rate(cell: GridCell) -> float | None:
    """Forward rows a second of the untrained network, from two batches; None where it can't be built (weights not here)."""
    try:
        network = untrained(cell.spec)
    except (BenchError, OSError):
        return None
    device = device_of(cell.runtime.device)
    members = list(network) if isinstance(network, torch.nn.ModuleList) else [network]
    one = members[0].to(device).eval()
    x = torch.zeros(cell.spec.numerics.rows, *cell.spec.dataset.shape, device=device)
    with torch.no_grad():
        one(x)
        began = time.perf_counter()
        for _ in range(2):
            one(x)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return 2 * len(x) / max(time.perf_counter() - began, 1e-9)


def _complete(cell: GridCell) -> bool:
    try:
        return Cell(cell.runtime.store, cell.key).complete(cell.spec.samples.n)
    except BenchError:
        return False


def lines(found: Plan) -> list[str]:
    text = [
        f"{found.cells:,} cells, {found.missing:,} to run",
        f"{found.trainings} trainings, {found.epochs:,} epochs in all (not in the hours below)",
        f"at most {found.forward:,} forward and {found.backward:,} backward passes of one image",
    ]
    if found.seconds is not None:
        text.append(
            f"about {found.seconds / 3600:.2f} hours on this machine at most, by a probe of two batches a network"
        )
    if found.not_built:
        text.append(f"not in the hours: {', '.join(found.not_built)} (its weights are not here)")
    return [*text, f"{found.disk / 2**20:.1f} MiB of records"]
