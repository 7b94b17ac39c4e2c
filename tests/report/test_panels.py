"""FGR's Table 1 and gains: two panels counted by hand, through the metrics as a table's columns name them."""

from typing import Any

import pytest

from bench.core.errors import BenchError
from bench.report.metrics import METRICS, check
from bench.report.metrics.panels import OverPanels, Point, differences, winner
from bench.report.table_specs import TableSpec, table

SPEC: dict[str, Any] = {
    "panels": {
        "methods": {"AT": [{"recipe": "at"}], "IGR": [{"recipe": "igr"}] * 2, "FGR": [{"recipe": "fgr"}] * 2, "RS": [{}] * 2},
        "settings": {"MNIST": [{"dataset": "mnist"}], "CIFAR10": [{"dataset": "cifar10"}]},
        "attacks": {"single": {"attack": "flow_fgsm"}},
        "nearest_to": "AT",
        "same_lambda": ["FGR", "RS"],
    },
    "rows": [{"name": "MNIST"}, {"name": "single"}, {"name": "all"}],
    "columns": [{"name": "won", "metric": "panels_won", "of": ["FGR"]}],
}  # fmt: skip
# clean, adversarial
FIRST = {
    "AT": [Point(90, 50)],
    "IGR": [Point(95, 20), Point(89, 40)],
    "FGR": [Point(96, 30), Point(88, 60)],
    "RS": [Point(95, 35), Point(86, 70)],  # 95 is nearer 90 than FGR's 96, but RS's 86 is nearer still
}
SECOND = {
    "AT": [Point(80, 50)],
    "IGR": [Point(80, 50), Point(60, 99)],
    "FGR": [Point(81, 50), Point(70, 80)],
    "RS": [Point(79, 40), Point(70, 81)],
}


def of(metric: str, methods: list[str]) -> float:
    spec = table("t", SPEC | {"columns": [{"name": "x", "metric": metric, "of": methods}]})
    assert isinstance(spec, TableSpec) and spec.panels is not None
    check("t", spec)
    kind = METRICS[metric]
    assert isinstance(kind, OverPanels)
    return kind.of([FIRST, SECOND], spec.columns[0], spec.panels)


def test_the_winner_is_the_best_of_those_whose_clean_accuracy_is_nearest() -> None:
    """First: IGR plays 89/40, FGR 88/60, RS 86/70. Second: AT and IGR at 80/50, FGR at 81/50, RS 79/40: FGR by clean accuracy."""
    assert (winner(FIRST, "AT"), winner(SECOND, "AT")) == ("RS", "FGR")
    assert [of("panels_won", [name]) for name in ("AT", "IGR", "FGR", "RS")] == [0, 0, 1, 1]


def test_gains_pair_by_lambda_or_by_the_nearest_clean_accuracy() -> None:
    """FGR - IGR: 96 with 95 (30 - 20), 88 with 89 (60 - 40); 81 with 80 (50 - 50), 70 with 80 or 60: the first (80 - 50)."""
    assert differences(FIRST["FGR"], FIRST["IGR"], together=False) == [10, 20]
    assert differences(SECOND["FGR"], SECOND["IGR"], together=False) == [0, 30]
    assert [of(f"gain_{name}", ["FGR", "IGR"]) for name in ("min", "mean", "max")] == [0, 15, 30]
    # RS - FGR, by place: 5, 10; -10, 1
    assert [of(f"gain_{name}", ["RS", "FGR"]) for name in ("min", "mean", "max")] == [-10, 1.5, 10]
    assert of("clean_loss_mean", ["RS", "FGR"]) == (1 + 2 + 2 + 0) / 4
    with pytest.raises(BenchError, match="2 candidates can't be paired with 1"):
        differences(FIRST["FGR"], FIRST["AT"], together=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"panels": None}, "needs the table's `panels`"),
        ({"columns": [{"name": "x", "metric": "panels_won", "of": ["FGR", "RS"]}]}, "names 1 of the methods"),
        ({"columns": [{"name": "x", "metric": "gain_min", "of": ["FGR", "RSS"]}]}, "no method RSS in `panels`"),
        ({"rows": [{"name": "MNSIT"}]}, "row MNSIT is no group of settings, no attack"),
    ],
)
def test_a_table_that_says_too_little_gets_one_line(change: dict[str, Any], said: str) -> None:
    spec = table("t", SPEC | change)
    assert isinstance(spec, TableSpec)
    with pytest.raises(BenchError, match=said):
        check("t", spec)
