"""Other libraries' attacks, metered: which run on digits, that no row escapes the ledger, that a budget is a hard stop."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from attacks.base import Rows
from attacks.foreign.network import Metered
from attacks.gradient.pgd import Pgd
from attacks.oracles.gradients import Exact
from bench.core import rng
from bench.core.errors import BenchError
from bench.core.victim import FixedRows, Ledger, Victim
from bench.run import cell
from bench.store.records import Cell
from defenses.none import Undefended
from tests.support.cells import Compose
from tests.support.foreign import CASES, LINF, MODULES, Case, N, installed, judged, on
from tests.support.scene import CPU, Scene
from tests.support.strike import strike

TABLE = Path(__file__).resolve().parents[2] / "docs" / "foreign.md"
NOT_HERE = "pip install -e '.[engines]'; adv-lib: pip install --no-deps adv-lib"


def _params(cases: list[Case]) -> list[object]:
    """foolbox is in [dev] and its cases are CI's; the others run where they are installed, by -m parity."""
    mark = [pytest.mark.parity]
    return [pytest.param(case, id=str(case), marks=[] if case.engine == "foolbox" else mark) for case in cases]


@pytest.mark.parametrize("case", _params([case for case in CASES if not case.refused]))
def test_it_runs_and_no_row_escapes_the_ledger(case: Case, digits: Scene) -> None:
    if not installed(case.engine):
        pytest.skip(f"{case.engine} isn't installed ({NOT_HERE})")
    fields = {"engine": case.engine, "name": case.name, "options": case.options}
    image, rows, ledger, _ = on(digits, case.threat, **fields)
    assert image.shape == digits.x[:N].shape and 0 <= float(image.min()) <= float(image.max()) <= 1
    assert judged(digits, case.threat, image) >= case.least
    assert rows == ledger["white_box"] + ledger["filler"] + ledger["inner"]
    if case.engine == "foolbox":
        assert torch.equal(image, on(digits, case.threat, **fields)[0]), "its draws are keyed by the seed"


@pytest.mark.parametrize("case", _params([case for case in CASES if case.refused]))
def test_what_does_not_run_says_why_in_a_line(case: Case, digits: Scene) -> None:
    if not installed(case.engine):
        pytest.skip(f"{case.engine} isn't installed ({NOT_HERE})")
    with pytest.raises(BenchError, match=case.refused) as caught:
        on(digits, case.threat, engine=case.engine, name=case.name, options=case.options)
    assert "\n" not in str(caught.value)


def test_the_documents_table_lists_every_case_once() -> None:
    told = [tuple(line.split(" | ")[:3]) for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    ours = [(f"| {case.engine}", case.name, case.threat.norm) for case in CASES]
    assert [line for line in told if line[0][2:] in MODULES] == ours
    runs = {engine: {c.name for c in CASES if c.engine == engine and not c.refused} for engine in MODULES}
    least = {"foolbox": 25, "torchattacks": 20, "art": 10, "advlib": 10}
    assert all(len(runs[engine]) >= least[engine] for engine in MODULES), {e: len(names) for e, names in runs.items()}


@pytest.mark.parametrize(("ours", "theirs"), [("fgsm", "FGSM"), ("pgd", "PGD")])
def test_ours_and_foolboxs_of_one_name_agree_at_equal_settings(ours: str, theirs: str, digits: Scene) -> None:
    """What differs between libraries are defaults (docs/foreign.md); with the same steps they break the same images."""
    close = replace(LINF, eps=Fraction(1, 16))
    options = {"steps": 20, "rel_stepsize": 0.125} if ours == "pgd" else {}
    image, *_ = on(digits, close, n=64, engine="foolbox", name=theirs, options=options)
    steps, step = (20, 0.125) if ours == "pgd" else (1, 1.0)
    attack = Pgd(close, steps, step, 0.0, ours == "pgd", 1, "cross_entropy", early_stop=True)
    _, hit, _, _ = strike(digits.first(64), attack)
    assert abs(int(hit.sum()) - judged(digits, close, image)) <= (0 if ours == "fgsm" else 2)
    assert 5 < int(hit.sum()) < 60


def test_a_budget_is_a_hard_stop_that_keeps_what_was_found(digits: Scene) -> None:
    fields = {"engine": "foolbox", "name": "LinfPGD", "options": {"steps": 40}}
    _, _, whole, _ = on(digits, LINF, **fields)
    image, _, ledger, _ = on(digits, LINF, passes=10, **fields)
    assert ledger["white_box"] <= 10 * N < whole["white_box"] and judged(digits, LINF, image) > 0


def test_the_canary_knows_rows_out_of_order(digits: Scene) -> None:
    fixed = FixedRows(digits.network, N, torch.float32, Ledger(N, CPU))
    x, y, number = digits.x[:N], digits.y[:N], torch.arange(N)
    rows = Rows(number, y, torch.full_like(y, -1), rng.keys(0, rng.Stream.ATTACK, number))
    network = Metered(Exact(Victim(Undefended(fixed), fixed, 0)), x, rows, LINF, None)
    network((x + 0.01).clamp(0, 1))
    assert network.in_order
    network(x.flip(0))
    assert not network.in_order
    part = Metered(network.oracle, x, rows, LINF, None)
    part(x[:3])
    assert not part.in_order


def test_a_cell_with_any_defence_and_oracle(compose: Compose) -> None:
    words = [
        "attack=foolbox",
        "attack/oracle=eot",
        "attack.oracle.samples=2",
        "defense=rnd",
        "samples=8",
        "attack.chunk=8",
    ]
    config = compose(*words, "numerics.rows=8", "+attack.options.steps=3")
    frame = Cell(cell.RuntimeSpec.parse(config).store, cell.run(config)).frame()
    assert len(frame) == 8 and (frame["passes_fwd"] > 0).any()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"engine": "foolbox", "name": "LinfPDG"}, "foolbox has no attack 'LinfPDG'; did you mean 'LinfPGD'"),
        ({"engine": "foolbox", "name": "LinfPGD", "options": {"stepz": 3}}, "does not run here .*stepz"),
        ({"engine": "foolbox", "name": "LinfPGD", "passes": 0}, "must be at least 1"),
    ],
)
def test_what_can_t_work_is_one_line(fields: dict[str, Any], says: str, digits: Scene) -> None:
    with pytest.raises(BenchError, match=says) as caught:
        on(digits, LINF, **fields)
    assert "\n" not in str(caught.value)


def test_a_library_that_is_not_installed_names_the_extra(digits: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "art", None)
    monkeypatch.delitem(sys.modules, "attacks.foreign.art_engine", raising=False)
    with pytest.raises(BenchError, match=r"attack=art needs art.*defence-bench\[engines\]"):
        on(digits, LINF, engine="art", name="FastGradientMethod")
