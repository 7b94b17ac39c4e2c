"""Golden records: 8 images a method. Answers that change without a raised `version` fail here.

When a method's answers are meant to change: raise `version` in its YAML and run `pytest tests/test_golden.py --golden=write`.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from attacks.base import Rows
from attacks.oracles.gradients import Watched
from bench.assemble.attack import build_attack, oracle_of
from bench.assemble.networks import build_victim
from bench.config import grid
from bench.config.specs import CellSpec
from bench.core import rng, rows
from bench.core.success import fooled
from bench.data.samples import load
from bench.run import groups, loop, slots
from tests.support.methods import METHODS, SETTINGS
from tests.support.networks import convolutional, network

# a line search makes another step of the last bit of a float: another CPU finds other flows (test_spatial.py has its
# property: it falls as low as scipy's)
AMPLIFIED = {"attack=stadv_lbfgs"}
STORE = Path("unused")  # no method here needs a network that is trained
FILE = Path(__file__).with_name("golden.json")


def play(method: str, budget: int = 60) -> dict[str, Any]:
    group = ["defense.group.size=8"] if "=unig" in method and "companions" not in method else []
    common = [method, "threat.eps=1/20", f"threat.queries={budget}", "numerics.rows=8", "threads=1", *group]
    (cell,) = grid.cells(list({o.partition("=")[0]: o for o in common + SETTINGS.get(method, [])}.values()))
    config, device = cell.config, torch.device("cpu")
    spec = CellSpec.parse(config)
    test = load(spec.dataset, spec.samples, device)
    special = any(name in method for name in ("=pni", "=dent"))
    victim = build_victim(spec, convolutional() if special else network(), test, STORE)
    positions = list(range(8))
    x, number = test.images(positions), test.numbers(positions)
    y = victim.defense.model(x).argmax(1)  # the untrained network's own labels: all correctly classified
    todo = slots.Todo(number, x, y, torch.full_like(y, -1), torch.ones_like(y, dtype=torch.bool))
    attack = build_attack(spec, victim.defense.model.network, test, STORE)
    if victim.defense.group is None:
        ticks = loop.run(victim, attack, spec.threat, loop.Feed(iter([todo])), 8)
    else:
        ticks = (ended.look for ended in groups.run(victim, attack, spec.threat, iter([todo]), 0, loop.Pace()))
    found = rows.cat([look.finished for look in ticks if look.finished is not None])
    index = found.sample.argsort()
    return {
        "version": config[method.partition("=")[0]]["version"],
        "sample": found.sample[index].tolist(),
        "queries": found.queries[index].tolist(),
        "fooled": found.fooled[index].int().tolist(),
    }


def strike(method: str) -> dict[str, Any]:
    """A white-box attack on the same images: what it fools, and how far it went (to three digits: its floats are its own)."""
    common = [method, "threat.eps=1/20", "numerics.rows=8", "threads=1"]
    (cell,) = grid.cells(list({o.partition("=")[0]: o for o in common + SETTINGS.get(method, [])}.values()))
    config, device = cell.config, torch.device("cpu")
    spec = CellSpec.parse(config)
    test = load(spec.dataset, spec.samples, device)
    net = convolutional() if "gmsa" in method else network()
    victim = build_victim(spec, net, test, STORE)
    positions = list(range(8))
    x, number = test.images(positions), test.numbers(positions)
    y = net(x).argmax(1)
    row = Rows(number, y, torch.full_like(y, -1), rng.keys(0, rng.Stream.ATTACK, number))
    attack = build_attack(spec, net, test, STORE)
    watched = Watched.over(oracle_of(attack, victim), victim.ledger.samples, device)
    image = attack(watched, x, row).image.detach()
    hit = fooled(net(image), y, row.target)
    return {
        "version": config["attack"]["version"],
        "sample": number.tolist(),
        "queries": [round(float(d), 3) for d in (image - x).flatten(1).norm(dim=1)],
        "fooled": hit.int().tolist(),
    }


def test_the_networks_know_nothing_of_a_global_seed() -> None:
    """A golden record says something only about a fixed network."""
    for build_one in (network, convolutional):
        states = []
        for seed in (0, 1):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                states.append(build_one().state_dict())
        assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("method", [method for method in METHODS if method != "attack=none"])
def test_answers_are_those_of_this_version(method: str, request: pytest.FixtureRequest) -> None:
    golden = json.loads(FILE.read_text()) if FILE.exists() else {}
    white_box = method.startswith("attack=") and not grid.cells([method])[0].spec.attack.queries
    ours = strike(method) if white_box else play(method)
    assert sum(ours["fooled"]) > 0 and len(set(ours["queries"])) > 1
    if request.config.getoption("golden") == "write":
        FILE.write_text(json.dumps(golden | {method: ours}, indent=0, sort_keys=True) + "\n")
        return
    assert method in golden, f"{method} has no golden record: pytest tests/test_golden.py --golden=write"
    if golden[method]["version"] == ours["version"]:
        if method in AMPLIFIED:
            return
        assert golden[method] == ours, f"{method} answers otherwise than before: raise `version` in its YAML"
    else:
        pytest.fail(f"{method} is of version {ours['version']}: pytest tests/test_golden.py --golden=write records it")
