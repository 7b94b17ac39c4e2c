"""Groups of a coupled defence side by side: records are those of one group at a time, and network calls are full."""

from pathlib import Path

import pytest

from bench.config.specs import CellSpec
from bench.run import cell
from bench.store.records import Cell
from tests.support.cells import Compose, frame_of, same

COMMON = ["threat.queries=20", "numerics.rows=16", "re_evaluations=3", "defense=unig"]
WHITE_BOX = ["attack=pgd", "attack.steps=5"]


def unig(size: int, neighbours: str) -> list[str]:
    return [f"defense.group.size={size}", f"defense.group.neighbours={neighbours}"]


@pytest.mark.parametrize(("size", "neighbours"), [(4, "leave"), (12, "stay"), (40, "leave")])
def test_records_do_not_depend_on_how_many_groups_share_a_call(
    size: int, neighbours: str, compose: Compose, tmp_path: Path
) -> None:
    """50 samples: of size 12 and 40, the last group is filled up by the first of the order."""
    cells = ["samples.n=50", *COMMON, *unig(size, neighbours)]
    alone = frame_of(compose(*cells, f"slots={size}", store=tmp_path / "alone"))
    assert 0 < alone["fooled"].sum() < 50
    same(alone, frame_of(compose(*cells, "slots=32", store=tmp_path / "some")))
    same(alone, frame_of(compose(*cells, store=tmp_path / "many")))


@pytest.mark.parametrize("size", [4, 40])
def test_white_box_records_neither(size: int, compose: Compose, tmp_path: Path) -> None:
    cells = ["samples.n=50", *COMMON, *unig(size, "stay"), *WHITE_BOX, "attack/oracle=bpda"]
    alone = frame_of(compose(*cells, f"slots={size}", store=tmp_path / "alone"))
    assert 0 < alone["fooled"].sum() < 50 and alone["passes_bwd"].sum() > 0
    same(alone, frame_of(compose(*cells, store=tmp_path / "many")))


@pytest.mark.slow
@pytest.mark.parametrize("neighbours", ["stay", "leave"])
@pytest.mark.parametrize("size", [4, 8, 16, 32])
def test_at_most_a_twentieth_is_filler(size: int, neighbours: str, compose: Compose) -> None:
    """Groups of a quarter to two calls, as 64 to 512 of calls of 256 rows are; on a queue that is long against a call."""
    config = compose("samples.n=480", *COMMON, *unig(size, neighbours), "threat.eps=1/40")
    cell.run(config)
    spec = CellSpec.parse(config)
    attack, clean = (Cell(Path(config["store"]), key).ledger() for key in (spec.key, spec.clean_key))
    for ledger in (attack, clean):
        assert ledger["filler"] <= 0.05 * sum(ledger.values()), ledger
