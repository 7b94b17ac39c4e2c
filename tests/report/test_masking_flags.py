"""The signs of masked gradients, each from records made by hand, and a row that has none of them."""

import numpy as np
import pandas as pd
import pytest

from bench.config.parse import parse
from bench.core.errors import BenchError
from bench.report.masking_flags import flags, robust
from bench.report.records import Attacked
from bench.report.table_specs import FlagGroups


def records(
    broken: int, n: int = 20, zero: float | None = 0.0, nonfinite: float | None = 0.0, first: int = 0
) -> Attacked:
    """n images, correctly classified but for the last, the first `broken` of them fooled."""
    column = {"grad_zero": zero, "grad_nonfinite": nonfinite}
    frame = pd.DataFrame(
        {
            "sample": np.arange(n),
            "position": np.arange(n),
            "clean": [True] * (n - 1) + [False],
            "fooled": np.arange(n) < broken,
        }
        | {name: [np.nan if value is None else value] * n for name, value in column.items()}
    )
    return Attacked.of(frame.tail(n - first))


CELLS = {
    "weak": records(2), "fair": records(10), "strong": records(18), "queries": records(15, zero=None, nonfinite=None),
    "few": records(10, first=10), "gone": records(0, zero=0.9), "broken": records(0, nonfinite=0.3),
}  # fmt: skip


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ({"white_box": ["strong"], "black_box": ["queries"], "transfer": ["fair"]}, []),
        ({"white_box": ["weak", "fair"], "black_box": ["queries"]}, ["black-box beats white-box (20.0 < 45.0)"]),
        ({"white_box": ["weak"], "transfer": ["fair"]}, ["transfer beats white-box (45.0 < 85.0)"]),
        ({"white_box": ["weak"], "weaker_first": [["weak", "fair", "strong"]]}, []),
        (
            {"white_box": ["weak"], "weaker_first": [["fair", "weak", "strong"]]},
            ["weak is weaker than fair (85.0 > 45.0)"],
        ),
        ({"white_box": ["fair"], "huge_eps": ["fair"]}, ["45.0 stand at fair"]),
        ({"white_box": ["strong"], "huge_eps": ["strong"]}, []),
        ({"white_box": ["weak"], "adaptive": ["fair"]}, ["adaptive beats white-box (45.0 < 85.0)"]),
        (
            {"white_box": ["weak"], "adaptive": ["strong"], "black_box": ["queries"]},
            ["adaptive beats white-box (5.0 < 85.0)"],
        ),
        ({"white_box": ["fair"], "adaptive": ["weak"]}, []),
        # the last ten images alone: `fair` breaks none of them, as `few` does not, though it breaks half of the twenty
        ({"white_box": ["few"], "transfer": ["fair"]}, []),
        ({"white_box": ["few"], "transfer": ["strong"]}, ["transfer beats white-box (10.0 < 90.0)"]),
        ({"white_box": ["fair"], "restarts": ["fair", "strong"]}, ["restarts add (45.0 -> 5.0)"]),
        ({"white_box": ["fair"], "steps": ["fair", "strong"]}, ["more steps add (45.0 -> 5.0)"]),
        ({"white_box": ["gone"]}, ["zero gradients (90% of entries)"]),
        ({"white_box": ["broken", "fair"]}, ["non-finite gradients (100% of images)"]),
        ({"white_box": ["queries"]}, []),  # an attack without gradients has none to lose
    ],
)
def test_each_sign(of: dict[str, object], words: list[str]) -> None:
    found = flags(parse(FlagGroups, of, "of"), CELLS)
    assert found.value == len(words) and found.shown == ("; ".join(words) or "none")


def test_a_row_without_a_column_keeps_every_other_group() -> None:
    names = ("white_box", "adaptive", "black_box", "transfer", "huge_eps", "restarts", "steps")
    whole = FlagGroups(**dict.fromkeys(names, ("a", "b")), weaker_first=(("a", "b"),))
    left = whole.without(frozenset({"a"}))
    assert all(getattr(left, name) == ("b",) for name in names) and left.weaker_first == (("b",),)
    assert set(FlagGroups.model_fields) == {*names, "weaker_first"}


def test_robust_counts_all_images() -> None:
    assert robust(records(3)) == 80.0  # 19 correctly classified, 3 fooled, of 20


def test_a_wrong_group_gets_one_line() -> None:
    with pytest.raises(BenchError, match="did you mean 'white_box'"):
        parse(FlagGroups, {"white_bx": ["weak"]}, "tables.t.columns.'flags'.of")
