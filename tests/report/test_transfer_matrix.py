"""Transfer matrices: every number by hand, the identity, what refuses, the table from stored cells, the heat map."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.config import grid
from bench.core.errors import BenchError
from bench.report import transfer_matrix
from bench.report.records import Attacked, CleanPass
from bench.store.records import Cell
from tests.support.reports import built, drawn, shown

SETTINGS = ["model=set_small_cnn", "attack=replay_member", "samples.n=4", "threads=1"]
CLEAN = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]  # target x image
FOOLED = {(0, 0): [0, 1, 2], (1, 1): [0, 1], (2, 2): [0, 1, 2, 3], (0, 1): [1], (1, 2): [3], (2, 0): [0, 1]}


def frame(s: int, t: int) -> pd.DataFrame:
    clean = np.array(CLEAN[t], dtype=bool)
    fooled = np.isin(np.arange(4), FOOLED.get((s, t), [])) & clean
    return pd.DataFrame({"sample": [7, 5, 3, 1], "position": range(4), "clean": clean, "fooled": fooled})


FRAMES = [[frame(s, t) for t in range(3)] for s in range(3)]
# accuracy by hand:     target 0  1   2
HAND = np.array([[0, 25, 100], [75, 0, 75], [25, 50, 0]])


def value(metric: str, frames: Any = None) -> Any:
    kind = CleanPass if metric == "set_clean_acc" else Attacked
    return transfer_matrix.value(metric, [[kind.of(each) for each in line] for line in frames or FRAMES], "tables.t")


def test_every_number_by_hand() -> None:
    black = [25, 100, 75, 75, 25, 50]
    found = value("blackbox_acc")
    assert found.value == pytest.approx(np.mean(black)) and found.n == 4
    assert found.shown == f"{np.mean(black):.1f} ± {np.std(black):.1f}"  # population: divided by 6
    assert value("whitebox_acc").value == 0
    assert value("whole_set_acc").value == pytest.approx(HAND.mean())
    low = value("minimum_pair")
    assert low.value == 25 and low.shown == "25.0 (0 on 1)" and low.low < 25 < low.high
    of_right = [50, 100, 100, 75, 100 / 3, 100]  # 1 of 2, 4 of 4, 3 of 3, 3 of 4, 1 of 3, 2 of 2
    assert value("blackbox_acc_clean").value == pytest.approx(np.mean(of_right))
    assert value("set_clean_acc", FRAMES[:1]).value == pytest.approx(100 * 9 / 12)
    assert value("owned_acc", FRAMES[:2]).value == pytest.approx(HAND[:2].mean())
    assert value("set_robust_acc", FRAMES[:1]).value == pytest.approx(HAND[0].mean())


def test_the_interval_is_over_images() -> None:
    """An image is in all six pairs, so 4 images are no 24."""
    right = np.array([[(f["clean"] & ~f["fooled"]).tolist() for f in line] for line in FRAMES], dtype=float)
    per_image = 100 * right[~np.eye(3, dtype=bool)].mean(0)
    half = 1.959964 * per_image.std(ddof=1) / 2
    found = value("blackbox_acc")
    assert (found.low, found.high) == pytest.approx((per_image.mean() - half, min(per_image.mean() + half, 100)))


def test_the_identity() -> None:
    """n * whole = white-box + (n - 1) * black-box, of numbers that are computed apart."""
    white, black, whole = (value(f"{name}_acc").value for name in ("whitebox", "blackbox", "whole_set"))
    assert 3 * whole == pytest.approx(white + 2 * black)
    transfer_matrix.check(HAND.astype(float))
    for broken in (HAND[:2].astype(float), np.where(np.eye(3) == 1, np.nan, HAND)):
        with pytest.raises((BenchError, IndexError)):
            transfer_matrix.check(broken)
    said = transfer_matrix.summary(HAND.astype(float))
    assert "58.3 ± 27.6" in said and "6 pairs" in said and "25.0 (0 on 1)" in said
    assert "3 x 38.9 = 0.0 + 2 x 58.3" in said


def test_an_owner_of_several_members_is_met_in_every_set_that_the_grid_has() -> None:
    typed = [
        "+experiment=disjoint_mnist_small",
        "recipe=disjoint_mnist_small",
        "attack=replay_members",
        "attack.owned=2",
    ]
    configs = [cell.config for cell in grid.cells(typed)]
    a, b = (f"attack.sources.{name}.model.member" for name in "ab")
    found = transfer_matrix.places("owned_acc", configs, None, "tables.t")
    assert [(line[0][a], line[0][b]) for line in found] == [(0, 1), (0, 2), (1, 2)]
    assert [place["model.member"] for place in found[0]] == [0, 1, 2]
    three = [cell.config for cell in grid.cells([*typed[:2], "attack=replay_members", "attack.owned=3"])]
    with pytest.raises(BenchError, match="of one number of owned members"):
        transfer_matrix.places("owned_acc", [*configs, *three], None, "tables.t")


def test_other_images_are_refused() -> None:
    other = [[*line] for line in FRAMES]
    other[1][2] = other[1][2].assign(sample=[7, 5, 3, 2])
    with pytest.raises(BenchError, match="not of the same images"):
        value("blackbox_acc", other)


# --- tables and figures from stored cells -----------------------------------------------------------------------------

MATRIX = {"kind": "matrix", "title": "PGD", "where": {"recipe": "standard_digits"}}
SUMMARY = {
    "title": "S",
    "rows": [{"name": "set of 3", "where": {"recipe": "standard_digits"}}],
    "columns": [
        {"name": "clean", "metric": "set_clean_acc"}, {"name": "PGD", "metric": "blackbox_acc"},
        {"name": "lowest", "metric": "minimum_pair"},
    ],
}  # fmt: skip


@pytest.fixture
def cells(tmp_path: Path) -> list[grid.GridCell]:
    axes = ["model.member=0,1,2", "attack.sources.a.model.member=0,1,2", f"store={tmp_path}"]
    return grid.cells([*SETTINGS, *axes])


@pytest.fixture
def stored(cells: list[grid.GridCell]) -> list[grid.GridCell]:
    """The nine cells with records made by hand."""
    made = {"data": "d", "weights": "w", "device": "cpu", "threads": 1, "ledger": {}, "torch": "2", "commit": "c"}
    for each in cells:
        s, t = each.config["attack"]["sources"]["a"]["model"]["member"], each.config["model"]["member"]
        clean, attacked = Cell(Path(each.config["store"]), each.clean_key), Cell(Path(each.config["store"]), each.key)
        rows = [{"label": 0, "queries": 0, **row} for row in frame(s, t).to_dict("records")]
        about = {"samples_in_all": 4, "anytime": False, "commit": "c", "dirty": False}
        if not clean.description():
            clean.describe(about | {"config": each.spec.clean_identity(), "key": clean.key})
            clean.append([row | {"fooled": False, "logits": [0.0]} for row in rows], made)
        attacked.describe(about | {"config": each.spec.identity(), "key": attacked.key})
        attacked.append(rows, made)
    return cells


def test_a_matrix_is_a_table(stored: list[grid.GridCell]) -> None:
    found = built(MATRIX, stored)
    assert found.rows == ["crafted on 0", "crafted on 1", "crafted on 2"]
    assert found.columns == ["model 0", "model 1", "model 2"]
    ours = [entry.ours for entry in found.entries.values()]
    assert [each.value for each in ours if each] == pytest.approx(HAND.flatten())
    assert len({entry.key for entry in found.entries.values()}) == 9
    assert any("58.3 ± 27.6" in note for note in found.notes) and transfer_matrix.NOTE in found.notes


def test_a_sets_numbers_stand_in_any_table(stored: list[grid.GridCell], capsys: pytest.CaptureFixture[str]) -> None:
    found = built(SUMMARY, stored)
    values = [entry.ours.shown or entry.ours.value for entry in found.entries.values() if entry.ours]
    assert values == [pytest.approx(75), "58.3 ± 27.6", "25.0 (0 on 1)"]
    shown(stored, {"t": SUMMARY, "m": MATRIX}, {"f": {"kind": "heatmap", "table": "m", "title": "PGD"}})
    assert "58.3 ± 27.6" in capsys.readouterr().out
    store = Path(stored[0].config["store"])
    assert "58.3 ± 27.6" in (store / "tables" / "mine-t.md").read_text()
    svg = (store / "figures" / "mine-f.svg").read_text()
    assert all(f">{each:.1f}<" in svg for each in HAND.flatten()) and ">crafted on 2<" in svg
    assert (store / "figures" / "mine-f.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ({"white_box": ["white-box"], "transfer": ["PGD", "lowest"]}, "none"),  # 0 against 58.3 and 25
        ({"white_box": ["PGD"], "transfer": ["lowest"]}, "transfer beats white-box (25.0 < 58.3)"),
        ({"weaker_first": [["white-box", "lowest", "PGD"]]},
         "lowest is weaker than white-box (25.0 > 0.0); PGD is weaker than lowest (58.3 > 25.0)"),
    ],
)  # fmt: skip
def test_a_sets_flags_are_of_the_numbers_beside_them(
    of: dict[str, Any], words: str, stored: list[grid.GridCell]
) -> None:
    more = [{"name": "white-box", "metric": "whitebox_acc"}, {"name": "flags", "metric": "set_flags", "of": of}]
    found = built(SUMMARY | {"columns": [*SUMMARY["columns"], *more]}, stored)
    flags = found.entries["set of 3", "flags"].ours
    assert flags and flags.shown == words and flags.n == 4


def test_flags_of_a_set_are_of_its_attacks(stored: list[grid.GridCell]) -> None:
    wrong = {"name": "flags", "metric": "set_flags", "of": {"weaker_first": [["clean", "PGD"]]}}
    with pytest.raises(BenchError, match="column clean is set_clean_acc, no number of a set under attack"):
        built(SUMMARY | {"columns": [*SUMMARY["columns"], wrong]}, stored)


def test_a_missing_cell_is_a_dash_and_its_command(cells: list[grid.GridCell]) -> None:
    for spec in (MATRIX, SUMMARY):
        found = built(spec, cells)
        assert all(entry.ours is None for entry in found.entries.values())
        assert "model.member=0" in next(iter(found.entries.values())).command
    assert built(MATRIX, cells).notes == [transfer_matrix.NOTE]


def test_a_narrowed_grid_leaves_out_what_it_lacks(stored: list[grid.GridCell]) -> None:
    one = [each for each in stored if each.config["model"]["member"] == 1]
    assert built(SUMMARY, one, narrowed=True).entries == {}
    assert len(built(MATRIX, one, narrowed=True).entries) == 3
    assert built(MATRIX | {"where": {"recipe": "adp"}}, one, narrowed=True).entries == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "matrx"}, r"tables\.t\.kind=matrx is unknown"),
        ({"rows": []}, "a matrix has its rows and columns from the set"),
        ({"where": {"recipe": "adp"}}, "`where` matches no cell; name the model and recipe"),
        ({"source": "attack.sources.b.model.member"}, "matches no cell of the grid"),
    ],
)
def test_what_refuses(changes: dict[str, Any], said: str, cells: list[grid.GridCell]) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        built(MATRIX | changes, cells)
    assert "\n" not in str(caught.value)


def test_a_network_is_no_set() -> None:
    with pytest.raises(BenchError, match="cells of other models than sets"):
        built({"kind": "matrix", "where": {"defense": "none"}}, grid.cells([]))


def test_a_heat_map_has_one_unit(stored: list[grid.GridCell], tmp_path: Path) -> None:
    found = built(MATRIX, stored)
    from dataclasses import replace

    entry = found.entries["crafted on 0", "model 0"]
    found.entries["crafted on 0", "model 0"] = replace(entry, metric="logit_diff")
    with pytest.raises(BenchError, match="one unit, these columns logits, percent"):
        drawn({"kind": "heatmap", "table": "t"}, {"t": found}, tmp_path, tmp_path / "f")


def test_owned_members_are_the_first_of_the_sources_and_the_key_names_no_other() -> None:
    two, three = (grid.cells(["model=set_small_cnn", "recipe=disjoint_mnist_small", "attack=replay_members", f"attack.owned={n}"])
                  for n in (2, 3))  # fmt: skip
    assert [list(cell.spec.attack.sources or {}) for (cell,) in (two, three)] == [["a", "b"], ["a", "b", "c"]]
    assert "owned" not in two[0].spec.identity()["attack"] and two[0].key != three[0].key
    for wrong in ("0", "9", "true", "x"):
        with pytest.raises(BenchError, match="owned must be a whole number from 1 to 8"):
            grid.cells(["model=set_small_cnn", "attack=replay_members", f"attack.owned={wrong}"])
