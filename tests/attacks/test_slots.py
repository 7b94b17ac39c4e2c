"""Every attack's YAML, end to end on digits against a random defence: the same records for any slots, exact ledgers."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bench.assemble import build
from bench.config import grid, identity
from bench.run import cell
from bench.store.records import Cell
from tests.support.methods import METHODS, SETTINGS

ATTACKS = [
    method
    for method in METHODS
    if method.startswith("attack=")
    and method != "attack=none"
    and identity.asks(grid.cells([method])[0].config["attack"])
]
CASES = [[method, *SETTINGS.get(method, [])] for method in ATTACKS] + [
    ["attack=square", "average=3", "accept=1"],
    ["attack=signhunter", "average=2", "accept=0"],
    ["attack=bandits", "average=2"],
    ["attack=square", "defense=unig_copies"],
    ["attack=square", "threat.goal=random", "attack.loss=cross_entropy"],
    ["attack=simba", "threat.norm=l2", "threat.eps=0.7"],
]


def frame_of(config: dict[str, Any]) -> pd.DataFrame:
    return Cell(Path(config["store"]), cell.run(config)).frame().drop(columns=["seconds"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[:2]))
def test_records_do_not_depend_on_slots_and_ledgers_are_exact(
    case: list[str],
    compose: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = 0

    def hook(_module: Any, inputs: tuple[torch.Tensor, ...], _output: Any) -> None:
        nonlocal seen
        seen += (
            0 if torch.is_grad_enabled() and inputs[0].requires_grad else len(inputs[0])
        )  # crafting is the attacker's own

    original = build.victim

    def hooked(config: Any, network: Any, device: Any, highest: int) -> Any:
        network.features.register_forward_hook(hook)
        return original(config, network, device, highest)

    monkeypatch.setattr(build, "victim", hooked)
    monkeypatch.setattr("bench.run.cell._cost", lambda *_: None)  # its rows are of a victim of its own
    few = {
        "attack=simba": {"threat.queries": "150"},
        "attack=nes": {"threat.queries": "150"},
        "attack=bandits_l2": {"threat.eps": "2"},
    }.get(case[0], {})
    base = {"samples.n": "40", "threat.queries": "60", "numerics.rows": "8", "defense": "rnd"}
    chosen = base | dict(o.split("=", 1) for o in case) | few
    common = [f"{name}={value}" for name, value in chosen.items()]
    config = compose(*common, "slots=64")
    reference = frame_of(config)
    assert reference["fooled"].sum() > 0 or "noise" in case[0]
    whole = identity.identity(config)
    ledgers = [Cell(Path(config["store"]), identity.of(each)).ledger() for each in (whole, identity.clean(whole))]
    assert sum(sum(each.values()) for each in ledgers) == seen
    assert ledgers[0]["attack"] == reference["queries"].sum() and reference["queries"].max() <= int(
        chosen["threat.queries"]
    )
    for slots in (8, 24):
        again = frame_of(compose(*common, f"slots={slots}", store=tmp_path / f"slots{slots}"))
        pd.testing.assert_frame_equal(reference, again, check_exact=True)
