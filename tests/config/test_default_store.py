"""Where a run's records go when nobody says it."""

from pathlib import Path

import pytest

from bench.config import grid, resolvers

ROOT = Path(__file__).resolve().parents[2]


def test_the_default_store_is_the_checkouts_whatever_the_start_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENCH_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert grid.cells([])[0].config["store"] == str(ROOT / "results" / "local")
    assert grid.cells(["store=mine"])[0].config["store"] == "mine"
    monkeypatch.setattr(resolvers, "__file__", str(tmp_path / "site" / "bench" / "config" / "resolvers.py"))
    assert resolvers.default_store() == "results"
    monkeypatch.setenv("BENCH_STORE", str(tmp_path / "mine"))
    assert resolvers.default_store() == str(tmp_path / "mine")
