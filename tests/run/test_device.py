"""Every attack on every kind of defence, as cells on one device: the CPU in any run, CUDA where there is one (`pytest -m gpu`).

Records are bit for bit the same for any slots, shard, interval of looks and running ahead; ledgers are what a hook on the network
saw; another rounding of the same network (CPU against CUDA, or other rows a call) changes few records of a fixed victim.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bench.config import grid
from bench.config.specs import CellSpec
from bench.run import cell
from bench.store.records import Cell
from tests.run.test_kill import CODE, ROOT
from tests.support.cells import Compose
from tests.support.methods import METHODS, SETTINGS

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
ALONE = [m for m in METHODS if m.startswith("attack=") and m not in ("attack=none", "attack=gmsa")]
QUERY = [m for m in ALONE if grid.cells([m])[0].spec.attack.queries]
WHITE_BOX = ["attack=pgd", "attack=mifgsm", "attack=cw", "attack=ead", "attack=flow_pgd", "attack=stadv"]
TRAITS = {
    "none": ["defense=none"],
    "stochastic": ["defense=rnd"],
    "after-treated": ["defense=aaa"],
    "coupled": ["defense=unig", "defense.group.size=8"],
    "leaving": ["defense=unig_leave", "defense.group.size=8"],
}
COUPLED = ("coupled", "leaving")
KNOBS = ["slots=8", "look_every=3", "run_ahead=false"]


def frame_of(config: dict[str, Any]) -> pd.DataFrame:
    frame = Cell(Path(config["store"]), cell.run(config)).frame()
    return frame.drop(columns="seconds").sort_values("sample", ignore_index=True)


def cell_of(compose: Compose, case: list[str], device: str, *more: str, store: Path | None = None) -> dict[str, Any]:
    small = ["samples.n=16", "threat.queries=24", "numerics.rows=8", "re_evaluations=2", f"device={device}"]
    return compose(*small, *case, *more, store=store)


def all_knobs(compose: Compose, case: list[str], device: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the cell as it comes, with a hook on its network; then with other knobs, in two shards."""
    seen, original = [0], cell.build_victim

    def hooked(spec: Any, network: Any, *rest: Any) -> Any:
        def hook(_module: Any, inputs: tuple[torch.Tensor, ...], _output: Any) -> None:
            seen[0] += len(inputs[0])

        network.features.register_forward_hook(hook)
        return original(spec, network, *rest)

    monkeypatch.setattr("bench.run.cost.of", lambda *_: None)  # its rows are of a victim of its own
    first = cell_of(compose, case, device)
    with monkeypatch.context() as patch:
        patch.setattr(cell, "build_victim", hooked)
        reference = frame_of(first)
    spec = CellSpec.parse(first)
    ledgers = [Cell(Path(first["store"]), each).ledger() for each in (spec.key, spec.clean_key)]
    if spec.attack.queries and case[0] not in (
        "attack=transfer",
        "attack=transfer_pgd",
    ):  # crafting is the attacker's own
        assert sum(sum(each.values()) for each in ledgers) == seen[0]
        assert ledgers[0]["attack"] == reference["queries"].sum() > 0
    for shard in ("1/2", "2/2"):
        again = frame_of(cell_of(compose, case, device, *KNOBS, f"shard={shard}", store=path / "again"))
    pd.testing.assert_frame_equal(reference, again, check_exact=True)
    if device == "cuda" and spec.attack.queries:  # on a CPU: tests/run/test_recorded.py
        recorded = frame_of(cell_of(compose, case, device, "cuda_graph=true", store=path / "recorded"))
        pd.testing.assert_frame_equal(reference, recorded, check_exact=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("trait", TRAITS)
@pytest.mark.parametrize("attack", QUERY)
def test_query_attacks_records_depend_on_no_knob(
    attack: str, trait: str, device: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cpu" and attack not in ("attack=square", "attack=rays"):
        pytest.skip("on a CPU tests/attacks/test_slots.py and tests/run/test_tick.py have all of them")
    case = [attack, *SETTINGS.get(attack, []), *TRAITS[trait]]
    all_knobs(compose, case, device, tmp_path, monkeypatch)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("trait", ["none", "stochastic", "coupled"])
@pytest.mark.parametrize("attack", WHITE_BOX)
def test_white_box_records_depend_on_no_knob(
    attack: str, trait: str, device: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if device == "cpu" and (trait != "none" or attack not in ("attack=pgd", "attack=stadv")):
        pytest.skip("on a CPU tests/attacks/test_white_box_cells.py has them")
    few = ["attack.steps=5"] if "flow" not in attack else []
    oracle = [] if trait == "none" else ["attack/oracle@attack.oracle=eot"] if trait == "stochastic" else []
    case = [attack, *SETTINGS.get(attack, []), *few, *TRAITS[trait], *oracle]
    all_knobs(compose, case, device, tmp_path, monkeypatch)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("attack", ["attack=square", "attack=simba", "attack=signhunter", "attack=rays", "attack=pgd"])
def test_another_rounding_changes_few_records(attack: str, device: str, compose: Compose, tmp_path: Path) -> None:
    """CUDA against the CPU; on a machine without one, calls of other rows."""
    if device == "cpu" and attack not in ("attack=square", "attack=pgd"):
        pytest.skip("two of them on a CPU")
    n = 200 if device == "cuda" else 60
    case = [f"samples.n={n}", "threat.queries=60", "defense=none"]
    here = frame_of(compose(attack, *case, "numerics.rows=32", f"device={device}"))
    other = "32" if device == "cuda" else "20"
    there = frame_of(compose(attack, *case, f"numerics.rows={other}", "device=cpu", store=tmp_path / "cpu"))
    assert (here["clean"] == there["clean"]).mean() > 0.97
    assert (here["fooled"] == there["fooled"]).mean() > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("trait", ["stochastic", "coupled"])
def test_a_fresh_process_goes_on_where_a_killed_one_ended(
    trait: str, device: str, compose: Compose, tmp_path: Path
) -> None:
    case = ["samples.n=24", "threat.queries=60", "numerics.rows=8", *TRAITS[trait], f"device={device}"]
    reference = frame_of(compose(*case))
    config = compose(*case, store=tmp_path / "killed")
    record = Cell(Path(config["store"]), CellSpec.parse(config).key)
    process = subprocess.Popen([sys.executable, "-c", CODE, json.dumps(config)], cwd=ROOT, start_new_session=True)
    while process.poll() is None and not (record.folder.exists() and list(record.folder.glob("part-*"))):
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(record.frame()) > 0
    subprocess.run([sys.executable, "-c", CODE, json.dumps(config)], cwd=ROOT, check=True)
    again = record.frame().drop(columns="seconds").sort_values("sample", ignore_index=True)
    pd.testing.assert_frame_equal(reference, again, check_exact=True)
