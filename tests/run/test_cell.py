"""Cells end to end on digits: exact ledgers, budgets, and the same record for the same sample however it was run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from attacks.query.square import Square
from bench.assemble import networks
from bench.assemble.attack import build_attack
from bench.assemble.networks import build_victim
from bench.config.specs import CellSpec
from bench.core.errors import BenchError
from bench.data.samples import load
from bench.run import cell, loop, slots
from bench.store.records import Cell
from tests.support.cells import frame_of, same

UNIG = ["defense=unig", "defense.group.size=20"]
VICTIMS = {
    "none": ["defense=none"],
    "rnd": ["defense=rnd"],
    "rnd_output": ["defense=rnd", "defense.output_noise=0.5"],
    "noise": ["defense=unig_noise"],
    "stay": UNIG,
    "leave": [*UNIG, "defense.group.neighbours=leave"],
    "stateful": [*UNIG, "defense.stateful=true", "defense.steps=3"],
    "companions": ["defense=unig_companions"],
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_ledger_is_what_a_hook_on_the_network_saw(victim: str, compose, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0

    def hook(_module: Any, inputs: tuple[torch.Tensor, ...], _output: Any) -> None:
        nonlocal seen
        seen += len(inputs[0])

    original = cell.build_victim

    def hooked(spec: Any, network: Any, *rest: Any) -> Any:
        network.features.register_forward_hook(hook)
        return original(spec, network, *rest)

    monkeypatch.setattr(cell, "build_victim", hooked)
    monkeypatch.setattr("bench.run.cost.of", lambda *_: None)  # its rows are of a victim of its own
    config = compose("samples.n=50", "threat.queries=40", "numerics.rows=16", *VICTIMS[victim])
    frame = frame_of(config)
    spec = CellSpec.parse(config)
    attack, clean = (Cell(Path(config["store"]), each).ledger() for each in (spec.key, spec.clean_key))
    assert sum(attack.values()) + sum(clean.values()) == seen
    assert attack["attack"] == frame["queries"].sum()
    assert clean["clean"] == len(frame) and clean["attack"] == 0
    stochastic = victim != "none"
    assert attack["re_evaluation"] == (10 * frame["fooled"].sum() if stochastic else 0)
    assert frame["re_evaluation_success"].notna().sum() == (frame["fooled"].sum() if stochastic else 0)
    batch_neighbours = {"stay", "leave", "stateful", "companions"}
    assert (clean["placeholder"] + attack["placeholder"] > 0) == (victim in batch_neighbours)


@pytest.mark.parametrize("budget", [1, 7, 60])
@pytest.mark.parametrize("victim", ["none", "stay"])
def test_budget_is_never_exceeded(budget: int, victim: str, compose) -> None:
    frame = frame_of(compose("samples.n=40", f"threat.queries={budget}", *VICTIMS[victim]))
    attacked = frame[frame["clean"]]
    assert attacked["queries"].max() <= budget
    assert (attacked.loc[~attacked["fooled"], "queries"] == budget).all()
    assert (frame.loc[~frame["clean"], "queries"] == 0).all()
    assert (frame.loc[frame["fooled"], "linf"] <= 1 / 12 + 1e-6).all()


@pytest.mark.parametrize("victim", ["none", "rnd", "noise", "companions"])
def test_records_do_not_depend_on_slots_order_or_shards(victim: str, compose, tmp_path: Path) -> None:
    common = ["samples.n=40", "threat.queries=60", "numerics.rows=8", *VICTIMS[victim]]
    reference = frame_of(compose(*common, "slots=40"))
    assert 0 < reference["fooled"].sum() < 40
    same(reference, frame_of(compose(*common, "slots=16", store=tmp_path / "refill")))
    for shard in ("2/2", "1/2"):
        last = frame_of(compose(*common, f"shard={shard}", store=tmp_path / "shards"))
    same(reference, last)
    other = frame_of(compose(*common, "samples.n=100", "samples.order=first", store=tmp_path / "order"))
    both = set(other["sample"]) & set(reference["sample"])
    assert len(both) > 3
    same(reference[reference["sample"].isin(both)], other[other["sample"].isin(both)])


@pytest.mark.parametrize("victim", ["stay", "leave", "stateful"])
def test_group_records_do_not_depend_on_shards_or_more_samples(victim: str, compose, tmp_path: Path) -> None:
    common = ["threat.queries=40", "numerics.rows=8", *VICTIMS[victim]]
    reference = frame_of(compose(*common, "samples.n=60"))
    for shard in ("2/2", "1/2"):
        last = frame_of(compose(*common, "samples.n=60", f"shard={shard}", store=tmp_path / "shards"))
    same(reference, last)
    frame_of(compose(*common, "samples.n=30", store=tmp_path / "grown"))
    same(reference, frame_of(compose(*common, "samples.n=60", store=tmp_path / "grown")))


def test_last_group_is_completed_by_stand_ins(compose) -> None:
    config = compose("samples.n=null", "threat.queries=5", "defense=unig", "defense.group.size=240")
    frame = frame_of(config)
    assert len(frame) == 500 and frame["sample"].is_unique
    assert Cell(Path(config["store"]), CellSpec.parse(config).clean_key).ledger()["placeholder"] == 3 * 240 - 500


@pytest.mark.parametrize("defense", ["none", "rnd", "unig"])
def test_f_b_records_do_not_depend_on_slots(
    defense: str, compose, tmp_path: Path, bench_data: Path, bench_weights: Path
) -> None:
    common = [
        "dataset=cifar10_jpeg", f"dataset.root={bench_data}", "model=vgg_fb_adv", f"model.build.root={bench_weights}",
        "samples.n=32", "threat.eps=8/255", "threat.queries=25", "numerics.rows=16", f"defense={defense}",
        *(["defense.group.size=16"] if defense == "unig" else []),
    ]  # fmt: skip
    reference = frame_of(compose(*common))
    assert reference["clean"].sum() > 15
    if defense == "unig":
        for shard in ("2/2", "1/2"):
            other = frame_of(compose(*common, f"shard={shard}", store=tmp_path / "other"))
    else:
        other = frame_of(compose(*common, "slots=16", store=tmp_path / "other"))
    same(reference, other)


def test_out_of_memory_halves_the_slots_and_changes_no_record(
    compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["samples.n=60", "threat.queries=50", "numerics.rows=8", "defense=rnd"]
    reference = frame_of(compose(*common, "slots=64"))
    original, sizes = loop.run, []

    def small_device(victim: Any, attack: Any, threat: Any, feed: Any, slots: int, pace: Any = None) -> Any:
        sizes.append(slots)
        for tick, result in enumerate(original(victim, attack, threat, feed, slots, pace)):
            if slots > 16 and tick == 10:
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield result

    monkeypatch.setattr(loop, "run", small_device)
    with pytest.warns(UserWarning, match="slots=16"):
        again = frame_of(compose(*common, "slots=64", store=tmp_path / "small"))
    assert sizes == [64, 32, 16]
    same(reference, again)


def test_out_of_memory_at_one_call_names_the_value(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_args: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    monkeypatch.setattr(loop, "run", no_room)
    with pytest.raises(BenchError, match=r"slots=64.*numerics\.rows"):
        cell.run(compose("samples.n=10", "slots=64"))


def test_slots_stay_full_until_the_queue_is_empty(compose) -> None:
    config = compose("samples.n=300", "threat.queries=200", "numerics.rows=16")
    device = torch.device("cpu")
    spec = CellSpec.parse(config)
    test = load(spec.dataset, spec.samples, device)
    network, _ = networks.deployed(spec, test, Path(config["artifacts"]))
    victim = build_victim(spec, network, test, Path(config["artifacts"]))
    positions = list(range(300))
    y = test.labels(positions)
    minus = torch.full_like(y, -1)
    todo = slots.Todo(test.numbers(positions), test.images(positions), y, minus, torch.ones_like(y, dtype=torch.bool))
    attack = build_attack(spec, network, test, Path(config["artifacts"]))
    looks = list(loop.run(victim, attack, attack.threat, loop.Feed(iter([todo])), 64, loop.Pace(1, False)))
    waiting, full = 300 - 64, []  # waiting: samples that still have no slot
    for look in looks:
        if waiting > 0:
            full.append(look.queried)
        waiting -= len(look.finished.y) if look.finished is not None else 0
    assert sum(len(look.finished.y) for look in looks if look.finished is not None) == 300
    assert len(full) > 100 and set(full) == {64}


def test_a_complete_cell_is_not_run_again_and_n_is_a_prefix(compose, monkeypatch: pytest.MonkeyPatch) -> None:
    small = frame_of(compose("samples.n=20", "threat.queries=20"))
    large = frame_of(compose("samples.n=50", "threat.queries=20"))
    same(small, large[large["position"] < 20])
    monkeypatch.setattr(Square, "start", lambda *_: pytest.fail("a complete cell was attacked again"))
    same(large, frame_of(compose("samples.n=50", "threat.queries=20")))
