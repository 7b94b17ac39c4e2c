"""The sites that the tests open: of two published experiments, and of a store of one's own with kept images."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.config import grid
from bench.run import cell
from bench.site import write
from bench.store.published import FOLDER
from tests.support import shipped

NAMES = ("digits_square", "cifar_square_small")
HOSTILE = "<script>window.broken = 1</script>"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published store's, of NAMES alone."""
    pytest.importorskip("itables", reason="the site needs pip install 'defence-bench[site]'")
    pytest.importorskip("vl_convert", reason="the site needs pip install 'defence-bench[site]'")
    out = tmp_path_factory.mktemp("site")
    write.site([FOLDER], out, NAMES)
    return out


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> tuple[Path, Path]:
    """-> (a store of four cells that kept their images, of which an audit is named HOSTILE; its site)."""
    pytest.importorskip("itables", reason="the site needs pip install 'defence-bench[site]'")
    store, out = tmp_path_factory.mktemp("own"), tmp_path_factory.mktemp("own_site")
    common = [*shipped.DIGITS, "threads=1", "device=cpu", f"store={store}", f"artifacts={artifacts}", "samples.n=30",
              "threat.eps=1/12", "keep_images=true", "numerics.rows=16", "threat.queries=60"]  # fmt: skip
    for words in (["attack=square"], ["attack=square", "defense=rnd"], ["attack=pgd", "attack.steps=5"]):
        (one,) = grid.cells([*common, *words])
        cell.run(one.config, command=f"python -m bench {' '.join(words)} store={store}")
    (store / "audits").mkdir()
    for i, name in enumerate((HOSTILE, "plain")):
        (store / "audits" / f"{i}.json").write_text(json.dumps(audit(name, 40.0 + 10 * i, ["a sign"] * i)))
    write.site([store], out, artifacts=artifacts)
    return store, out


def audit(name: str, remains: float, flags: list[str]) -> dict[str, Any]:
    """A page of the leaderboard, as bench.audit writes it."""
    number = {"value": remains, "low": remains - 10, "high": remains + 10, "n": 100}
    facts = {"stochastic": True, "coupled": False, "stateful": False, "differentiable": True, "clean_draws": [90.0],
             "logit_difference": 0.1, "parameters": 10, "macs": 10, "slowdown": 1.5}  # fmt: skip
    step = {"name": "noise", "part": "sanity", "usual": False, "tried": 50, "broken": 3, "adds": 3, "rows": 5312,
            "seconds": 2.2, "refused": "", "command": "python -m bench attack=noise"}  # fmt: skip
    return {"protocol": 1, "level": "quick", "date": "2026-01-01", "command": "c", "words": [], "threat": "linf 0.1",
            "subject": {"defense": name, "model": "m", "dataset": "d"}, "clean": number, "gap": 75.0 - remains,
            "claimed": number | {"value": 75.0, "by": "pgd"}, "remains": number, "flags": flags, "undecided": "no",
            "not_tried": [{"step": "all", "why": HOSTILE}], "facts": facts, "steps": [step]}  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; skipped where playwright or chromium is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'defence-bench[dev]'")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()
