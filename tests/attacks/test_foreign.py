"""Other libraries' attacks, metered: which run on digits, that no row escapes the ledger, that a budget is a hard stop."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch

from attacks.base import Rows
from attacks.foreign.foreign import Foreign
from attacks.foreign.network import Metered
from attacks.oracles.gradients import Exact
from bench.core import rng
from bench.core.errors import BenchError
from bench.core.threat import Threat
from bench.core.victim import FixedRows, Ledger, Victim
from bench.run import cell
from bench.store.records import Cell
from defenses.none import Undefended
from tests.support.cells import Compose
from tests.support.scene import CPU, Scene

N = 8
LINF = Threat("linf", Fraction(1, 5), 100, "logits", "untargeted")
L2, L1 = replace(LINF, norm="l2", eps=Fraction(2)), replace(LINF, norm="l1", eps=Fraction(10))
# name, norm, options, and the least number of 8 images that it fools inside the ball
Case = tuple[str, Threat, dict[str, Any], int]
SEARCH = {"binary_search_steps": 2, "steps": 30}
FOOLBOX: list[Case] = [
    *(
        (name, LINF, {}, 2)
        for name in ("LinfPGD", "LinfFastGradientAttack", "LinfBasicIterativeAttack", "LinfDeepFoolAttack")
    ),
    *((name, LINF, {}, 2) for name in ("LinfAdamPGD", "LinfAdamBasicIterativeAttack", "FGSM", "PGD")),
    ("LinfAdditiveUniformNoiseAttack", LINF, {}, 0),
    ("LinfRepeatedAdditiveUniformNoiseAttack", LINF, {"repeats": 5}, 0),
    ("LInfFMNAttack", LINF, {"steps": 20}, 1),
    *((name, L2, {}, 1) for name in ("L2PGD", "L2FastGradientAttack", "L2BasicIterativeAttack", "L2DeepFoolAttack")),
    *((name, L2, {}, 1) for name in ("L2AdamPGD", "L2AdamBasicIterativeAttack")),
    ("DDNAttack", L2, {"steps": 20}, 1),
    ("L2CarliniWagnerAttack", L2, SEARCH, 0),
    ("NewtonFoolAttack", L2, {"steps": 20}, 0),
    ("L2AdditiveGaussianNoiseAttack", L2, {}, 0),
    ("L2AdditiveUniformNoiseAttack", L2, {}, 0),
    ("L2ClippingAwareAdditiveGaussianNoiseAttack", L2, {}, 0),
    ("L2FMNAttack", L2, {"steps": 20}, 1),
    ("L1FMNAttack", L1, {"steps": 20}, 0),
    *(
        (name, L1, {}, 0)
        for name in ("SparseL1DescentAttack", "L1PGD", "L1FastGradientAttack", "L1BasicIterativeAttack")
    ),
    ("EADAttack", L1, SEARCH, 0),
]
STEPS = (
    "BIM",
    "PGD",
    "MIFGSM",
    "NIFGSM",
    "RFGSM",
    "EOTPGD",
    "APGD",
    "UPGD",
    "SINIFGSM",
    "VMIFGSM",
    "VNIFGSM",
    "Jitter",
)
TORCHATTACKS: list[Case] = [
    *((name, LINF, {}, 1) for name in ("FGSM", "FFGSM", *STEPS)),
    *((name, LINF, {}, 0) for name in ("TPGD", "GN", "VANILA")),
    ("Square", LINF, {"n_queries": 30}, 0),
    ("FAB", LINF, {"steps": 3}, 0),
    ("PGDL2", L2, {}, 1),
    ("DeepFool", L2, {}, 1),
    ("CW", L2, {"steps": 20}, 0),
]


def on(scene: Scene, threat: Threat, **fields: Any) -> tuple[Any, int, dict[str, int]]:
    """-> the images found, rows that entered the network by a hook, and the ledger."""
    fixed = FixedRows(scene.network, N, torch.float32, Ledger(N, CPU))
    victim, seen = Victim(Undefended(fixed), fixed, 0), [0]
    hook = scene.network.features.register_forward_pre_hook(
        lambda _, given: seen.__setitem__(0, seen[0] + len(given[0]))
    )
    x, y, number = scene.x[:N], scene.y[:N], torch.arange(N)
    rows = Rows(number, y, torch.full_like(y, -1), rng.keys(0, rng.Stream.ATTACK, number))
    try:
        found = Foreign(threat, chunk=N, **fields)(Exact(victim), x, rows).image
    finally:
        hook.remove()
    return found, seen[0], victim.ledger.totals()


def judged(scene: Scene, threat: Threat, image: torch.Tensor) -> int:
    x, y = scene.x[:N], scene.y[:N]
    with torch.no_grad():
        fooled = scene.network(image).argmax(1) != y
    return int((fooled & (threat.distance(x, image) <= threat.radius * (1 + 1e-5))).sum())


def check(engine: str, case: Case, scene: Scene) -> None:
    name, threat, options, least = case
    image, rows, ledger = on(scene, threat, engine=engine, name=name, options=options)
    assert image.shape == scene.x[:N].shape and 0 <= float(image.min()) <= float(image.max()) <= 1
    assert judged(scene, threat, image) >= least
    assert rows == ledger["white_box"] + ledger["filler"] + ledger["inner"]
    again, _, _ = on(scene, threat, engine=engine, name=name, options=options)
    assert torch.equal(image, again), "its draws are keyed by the seed"


@pytest.mark.parametrize("case", FOOLBOX, ids=[f"{case[0]}-{case[1].norm}" for case in FOOLBOX])
def test_foolbox(case: Case, digits: Scene) -> None:
    check("foolbox", case, digits)


@pytest.mark.parametrize("case", TORCHATTACKS, ids=[f"{case[0]}-{case[1].norm}" for case in TORCHATTACKS])
def test_torchattacks(case: Case, digits: Scene) -> None:
    pytest.importorskip("torchattacks", reason="pip install -e .[engines]")
    check("torchattacks", case, digits)


def test_a_budget_is_a_hard_stop_that_keeps_what_was_found(digits: Scene) -> None:
    fields = {"engine": "foolbox", "name": "LinfPGD", "options": {"steps": 40}}
    _, _, whole = on(digits, LINF, **fields)
    image, _, ledger = on(digits, LINF, passes=10, **fields)
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
