"""Cells of defences with passes of their own: the ledger is what a hook on the network saw, whatever the slots."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.config import grid
from bench.config.specs import CellSpec
from bench.run import cell
from bench.store.records import Cell

CASES = {
    "aaa": ["defense=aaa"],
    "blacklight": ["defense=blacklight", "defense.window=8"],
    "pni": ["defense=pni", "model=pni_small_cnn", "recipe=pni_digits"],
}


@pytest.mark.parametrize("case", CASES)
def test_a_cells_ledger_is_what_a_hook_saw_whatever_the_slots(
    case: str,
    artifacts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    common = ["threads=1", "device=cpu", f"artifacts={artifacts}", "threat.eps=1/12", "samples.n=50", *CASES[case]]
    common += ["numerics.rows=16", "threat.queries=20", "recipe.epochs=3"]
    seen, original = [0], cell.build_victim

    def hooked(config: Any, network: Any, *rest: Any) -> Any:
        network.features.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
        return original(config, network, *rest)

    monkeypatch.setattr(cell, "build_victim", hooked)
    monkeypatch.setattr("bench.run.cost.of", lambda *_: {})  # it has a victim and a ledger of its own
    one, other = (
        grid.cells([*common, f"store={tmp_path / name}", f"slots={slots}"])[0].config
        for name, slots in (("a", "null"), ("b", "48"))
    )
    spec = CellSpec.parse(one)
    frame = Cell(tmp_path / "a", cell.run(one)).frame()
    attack, clean = (Cell(tmp_path / "a", each).ledger() for each in (spec.key, spec.clean_key))
    assert sum(attack.values()) + sum(clean.values()) == sum(seen)
    assert attack["attack"] == frame["queries"].sum() > 0
    again = Cell(tmp_path / "b", cell.run(other)).frame()
    left, right = (each.sort_values("sample", ignore_index=True).drop(columns="seconds") for each in (frame, again))
    pd.testing.assert_frame_equal(left, right, check_exact=True)
