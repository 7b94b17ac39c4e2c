"""Every attack's YAML, end to end on digits against a random defence: the same records for any slots, exact ledgers."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bench.config import grid
from bench.config.specs import CellSpec
from bench.run import cell
from bench.store.records import Cell
from tests.support.methods import METHODS, SETTINGS

ATTACKS = [
    method
    for method in METHODS
    if method.startswith("attack=") and method != "attack=none" and grid.cells([method])[0].spec.attack.queries
]
CASES = [[method, *SETTINGS.get(method, [])] for method in ATTACKS] + [
    ["attack=square", "queries_per_image=3", "acceptance_z=1"],
    ["attack=signhunter", "queries_per_image=2", "acceptance_z=0"],
    ["attack=bandits", "queries_per_image=2"],
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

    original = cell.build_victim

    def hooked(spec: Any, network: Any, *rest: Any) -> Any:
        network.features.register_forward_hook(hook)
        return original(spec, network, *rest)

    monkeypatch.setattr(cell, "build_victim", hooked)
    monkeypatch.setattr("bench.run.cost.of", lambda *_: None)  # its rows are of a victim of its own
    few = {
        "attack=simba": {"threat.queries": "150"},
        "attack=nes": {"threat.queries": "150"},
        "attack=bandits_l2": {"threat.eps": "2"},
    }.get(case[0], {})
    base = {"samples.n": "32", "threat.queries": "60", "numerics.rows": "8", "defense": "rnd"}
    chosen = base | dict(o.split("=", 1) for o in case) | few
    common = [f"{name}={value}" for name, value in chosen.items()]
    config = compose(*common, "slots=32")
    reference = frame_of(config)
    assert reference["fooled"].sum() > 0 or "noise" in case[0]
    spec = CellSpec.parse(config)
    ledgers = [Cell(Path(config["store"]), each).ledger() for each in (spec.key, spec.clean_key)]
    assert sum(sum(each.values()) for each in ledgers) == seen
    assert ledgers[0]["attack"] == reference["queries"].sum() and reference["queries"].max() <= int(
        chosen["threat.queries"]
    )
    again = frame_of(compose(*common, "slots=16", store=tmp_path / "refilled"))
    pd.testing.assert_frame_equal(reference, again, check_exact=True)
