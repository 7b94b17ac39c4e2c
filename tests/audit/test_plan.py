"""What an audit will cost, said before: held against the ledger of the audit itself, and against counts by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.audit import __main__ as verb
from bench.audit import plan
from bench.audit.protocol import LEVELS, Level
from bench.audit.run import audit
from bench.store.records import Cell
from tests.support import shipped

FEW = Level("quick", 20, 60, 6, 1, (2, 3), 1, (4, 2), None, 0, 8, False)


def words(store: Path, artifacts: Path, *more: str) -> list[str]:
    common = [f"artifacts={artifacts}", f"store={store}", "device=cpu", "threads=1", "threat.eps=1/12", *shipped.DIGITS]
    return [*common, "samples=20", *more]


def test_no_audit_asks_more_than_its_plan(artifacts: Path, tmp_path: Path) -> None:
    typed = words(tmp_path, artifacts, "defense=rnd")
    planned = plan.plan(typed, FEW, probe=False)
    assert not list(tmp_path.iterdir())  # nothing ran
    found = audit(typed, FEW)
    ran = [each for each in found.outcomes if not (each.step.after or each.step.skipped)]
    assert planned.due == len(ran) and not [each for each in ran if each.refused and "no image" not in each.refused]
    asked = 0
    for key in {each.cell for each in ran if each.cell}:
        asked += int(Cell(tmp_path, key).frame(["queries"])["queries"].sum())
    assert 0 < asked <= planned.cost.forward < 20 * asked


def test_a_larger_budget_costs_what_it_adds_and_more_images_cost_more() -> None:
    def forward(effort: Level, *more: str) -> int:
        return plan.plan(["store=/nowhere", "artifacts=/nowhere", *more], effort, probe=False).cost.forward

    assert (
        forward(replace(FEW, queries=160), "samples=20") - forward(FEW, "samples=20") == 20 * 100 * 4
    )  # and three second opinions
    assert forward(FEW, "samples=20") > forward(FEW, "samples=10") > 0


def test_the_standard_level_counts_the_networks_that_its_attacker_trains(capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["defense=gcm", "store=/nowhere", "artifacts=/nowhere"]
    found = plan.plan(typed, LEVELS["standard"], probe=False)
    # its own, two of other seeds, one of another architecture, one that learned from answers, one trained on from them
    assert found.cost.trainings == 6 and found.skipped == 0 and found.later > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["audit", *typed, "level=standard", "plan=true", "device=cpu"])
        verb.main()
        said = capsys.readouterr().out
        assert "6 trainings" in said and "hours on this machine at most" in said and "training:" not in said
        patch.setattr("sys.argv", ["audit", *typed, "plan=maybe"])
        with pytest.raises(SystemExit, match="plan=maybe is neither true nor false"):
            verb.main()
