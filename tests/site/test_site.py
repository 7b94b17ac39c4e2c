"""What the site's files say: the report's and the leaderboard's numbers, words, downloads, links that lead somewhere."""

import csv
import html
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench.api.evaluate import Result
from bench.audit import leaderboard
from bench.core.errors import BenchError
from bench.data.samples import load
from bench.report.formats.comma_separated import comma_separated
from bench.report.formats.pieces import pieces
from bench.report.table_specs import Column, TableSpec
from bench.site import cells, charts, compare, experiments, library, papers, pictures, words, write
from bench.store import packs
from bench.store.published import FOLDER
from bench.store.records import Cell
from tests.site.conftest import HOSTILE, NAMES


def test_no_dead_end(built: Path, own: tuple[Path, Path]) -> None:
    check_links(built)
    check_links(own[1])


def check_links(site: Path) -> None:
    """Every address of every page leads to a file, and to a place on it where it names one."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    texts = {page.resolve(): page.read_text() for page in pages}
    for page, text in texts.items():
        for link in re.findall(r'(?:href|src)="([^"]*)"', text):
            path, _, place = html.unescape(link).partition("#")
            target = (page.parent / path).resolve() if path else page
            assert link == "data:," or target.is_file(), f"{page.name} -> {link}"
            if place and "=" not in place:
                assert f'id="{place}"' in texts[target], f"{page.name} -> {link}"


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_the_reports(built: Path, name: str) -> None:
    """Against the files that the reporter published, and against the page's own cells."""
    read = experiments.read(FOLDER, name)
    page = f"paper-{read.paper}.html" if read.paper else f"experiment-{name}.html"
    text = (built / page).read_text()
    assert read.tables and name in text
    for each in read.tables:
        section = text.split(f'<section id="{name}-{each.table.name}">')[1].split("</section>")[0]
        values = [html.unescape(found) for found in re.findall(r'class="value"[^>]*>([^<]*)<', section)]
        shown = [each.table.entries.get((row, column)) for row in each.table.rows for column in each.columns]
        assert values == [pieces(entry).value for entry in shown if entry]
        gaps = re.findall(r'<b class="gap[^>]*>([^<]*)</b>', section)
        assert gaps == [pieces(e).gap.strip("()") + pieces(e).outside for e in shown if e and pieces(e).gap]
        published = (FOLDER / "tables" / f"{name}-{each.table.name}.csv").read_text()
        own = (built / "data" / f"{name}-{each.table.name}.csv").read_text()
        assert own == published == comma_separated(each.table)
        parquet = pd.read_parquet(built / "data" / f"{name}-{each.table.name}.parquet")
        assert (
            parquet["value"].tolist()
            == pd.read_csv(FOLDER / "tables" / f"{name}-{each.table.name}.csv")["value"].tolist()
        )


def test_the_leaderboard_is_the_audits(built: Path) -> None:
    rows = leaderboard.rows(leaderboard.read(FOLDER / "audits"))
    with (built / "data" / "leaderboard.csv").open() as file:
        assert list(csv.DictReader(file)) == rows
    with (FOLDER / "audits" / "leaderboard.csv").open() as file:
        assert [row["remains"] for row in csv.DictReader(file)] == [row["remains"] for row in rows]


def test_what_remains_stands_first() -> None:
    assert experiments.ordered(["GCM", "flags", "worst case", "clean"]) == ["clean", "worst case", "flags", "GCM"]


def test_smaller_budgets_are_columns_of_the_same_attack() -> None:
    columns = [
        Column(name=f"s{q}", metric="robust_acc", where={"attack": "square", "threat.queries": q}) for q in (5, 9)
    ]
    other = Column(name="n", metric="robust_acc", where={"attack": "nes", "threat.queries": 5})
    early = Column(name="early", metric="robust_acc", where={"attack": "square", "threat.queries": 9}, at=3)
    table = TableSpec(rows=(), columns=(*columns, other, early))
    assert experiments.smaller(table) == {"s5", "early"}


def test_a_hostile_name_is_text_everywhere(own: tuple[Path, Path]) -> None:
    for page in own[1].rglob("*.html"):
        assert HOSTILE not in page.read_text(), page
    assert "&lt;script&gt;window.broken" in (own[1] / "index.html").read_text()


def test_a_cell_page_says_what_the_records_say() -> None:
    """Of every published kind of cell: the curve ends at the robust accuracy, outcomes add up, words name the attack."""
    pack = packs.load(FOLDER / "cells" / "digits_square.parquet")
    for key in pack.cells:
        page, frame = cells.read(FOLDER, key), Cell(FOLDER, key).frame()
        outcomes = [row[page.columns.index("outcome")] for row in page.samples]
        assert page.n == len(frame) and page.clean.value == pytest.approx(100 * frame["clean"].mean())
        if not page.attacked:
            assert outcomes.count("right") == frame["clean"].sum() and not page.charts
            continue
        stands = int((frame["clean"] & ~frame["fooled"]).sum())
        assert page.robust is not None and outcomes.count("stands") == stands == int(page.stands.sum())
        whole = Result("", key, frame, {}).curve()
        assert [list(point) for point in page.curve] == whole.to_numpy().tolist()
        assert page.ladder[-1] == (page.queries, pytest.approx(page.robust.value))
        rows = {name: count for name, count in Cell(FOLDER, key).ledger().items() if count}
        assert dict(page.made)["Network rows"] == ", ".join(f"{n.replace('_', ' ')} {c:,}" for n, c in rows.items())
        assert dict(page.settings)["Attack"].startswith("Square (") and "store=" not in page.command


def test_rows_are_compared_by_the_cells_of_their_worst_case() -> None:
    """A row's bits give the number that the table has."""
    read = experiments.read(FOLDER, "gcm_imagenet_small")
    pages = [(page, page.key) for page in (cells.read(FOLDER, key) for key in sorted(read.keys)) if page.attacked]
    script = compare.data(pages, {}, [("paper-gcm.html", read)])
    told = json.loads(script.removeprefix("window.BENCH=").rstrip(";\n"))
    assert told["rows"] and len(told["cells"]) == len(pages)
    for row in told["rows"]:
        _, table, name, column = row["key"].split("/", 3)
        entry = next(each.table.entries[name, column] for each in read.tables if each.table.name == table)
        stands = compare.robust([pages[i][0] for i in row["cells"]])
        assert entry.ours is not None and 100 * np.mean(stands) == pytest.approx(entry.ours.value)


def test_settings_in_words() -> None:
    config = {
        "dataset": {"source": {"_target_": "a.parquet", "files": {"test": "mnist/test.parquet"}}},
        "model": {"build": {"_target_": "m.small_cnn"}},
        "defense": {"_target_": "defenses.rnd.Rnd", "version": 1, "noise": 0.02},
        "attack": {
            "_target_": "a.Pgd",
            "steps": 5,
            "oracle": {"_target_": "o.Eot", "samples": 4},
            "random_start": False,
        },
        "threat": {"norm": "linf", "eps": "1/12", "queries": None, "feedback": "gradient", "goal": "untargeted"},
    }
    assert (words.dataset(config), words.model(config), words.defence(config)) == ("mnist", "small_cnn", "Rnd")
    assert words.attack(config) == "Pgd by Eot" and words.long(config["defense"]) == "Rnd (noise 0.02)"
    assert words.long(config["attack"]) == "Pgd (steps 5, random_start false)"
    assert words.threat(config) == "linf 1/12" and words.queries(config) is None


def test_every_experiment_of_a_paper_finds_it() -> None:
    assert papers.of("unig_digits", []) == "unig" and papers.of("transformation_small", []) == "advtrans"
    assert papers.of("cifar_square", [TableSpec(printed="unig_table1.csv", rows=(), columns=())]) == "unig"
    assert papers.of("digits_square", []) is None and len(papers.papers()) == 5


def test_a_histogram_counts_every_image() -> None:
    numbers = np.array([1, 1, 5, 100, np.nan])
    spec = charts.histogram(numbers, "queries", log=True)
    values = spec["data"]["values"]
    assert sum(bar["n"] for bar in values) == 4 and (values[0]["a"], values[-1]["b"]) == (1, 100)
    assert "4 images" in spec["description"]


def test_an_audits_query_attacks_are_drawn() -> None:
    step = {"name": "Square", "tried": 4, "curve": [7, 3]}
    spec = charts.sent([step, {"name": "PGD", "tried": 4}])
    assert spec is not None and spec["description"] == "Square: 2 of 4 broken."
    assert [(each["q"], each["r"]) for each in spec["data"]["values"]] == [(1, 100.0), (3, 75.0), (7, 50.0)]
    assert charts.sent([{"name": "PGD", "tried": 4}]) is None


def test_kept_images_are_shown(own: tuple[Path, Path], artifacts: Path) -> None:
    """Of a query and a white-box attack alike; the clean one is the data set's, and the difference ten times theirs."""
    from PIL import Image

    from bench.config import grid
    from tests.support import shipped

    store, site = own
    (some,) = grid.cells([*shipped.DIGITS, "device=cpu"])
    test = load(some.spec.dataset, some.spec.samples, torch.device("cpu"))
    place = {number: i for i, number in enumerate(test.numbers(list(range(len(test)))).tolist())}
    kept = {key.name: pictures.load(artifacts, key.name) for key in (store / "cells").iterdir()}
    kinds = {cells.read(store, key).attack: images for key, images in kept.items() if images}
    assert set(kinds) == {"Square", "Pgd"}
    for key, images in kept.items():
        for sample, (clean, adversarial) in images.items():
            assert np.array_equal(clean, test.images([place[sample]])[0].numpy())
            assert np.abs(adversarial - clean).max() <= 1 / 12 + 1e-6
        for path in (site / "cells" / key).glob("*-difference.png"):
            sample = int(path.name.split("-")[0])
            wanted = np.clip(0.5 + 10 * (images[sample][1] - images[sample][0]), 0, 1)[0]
            assert np.abs(np.asarray(Image.open(path)) / 255 - wanted).max() <= 1 / 255
    assert len(list((site / "cells").glob("*/*.png"))) >= 3 * 3 * 20


def test_a_damaged_cell_is_a_line_not_the_end(tmp_path: Path, own: tuple[Path, Path]) -> None:
    import shutil

    shutil.copytree(own[0], tmp_path / "store")
    part = next((tmp_path / "store" / "cells").glob("*/part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    write.site([tmp_path / "store"], tmp_path / "site")
    assert 'role="alert"' in (tmp_path / "site" / "cells.html").read_text()


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    write.site([tmp_path], tmp_path / "site")
    assert "No audit" in (tmp_path / "site" / "index.html").read_text()
    for page in ("papers", "experiments", "cells"):
        assert re.search("No (table|record)", (tmp_path / "site" / f"{page}.html").read_text())
    with pytest.raises(BenchError, match="no store has a record of experiment digits_square"):
        write.site([tmp_path], tmp_path / "site", ["digits_square"])
    with pytest.raises(BenchError, match="is no folder"):
        write.site([tmp_path / "none"], tmp_path / "site")


def test_a_bundle_of_another_form_is_refused() -> None:
    made = library.classic("var a=1,b=2;export{a as default,b as jQuery,b as x};\n/* end */")
    assert "window.DataTable=a;window.jQuery=b;" in made and "export" not in made and "/* end */" in made
    with pytest.raises(BenchError, match="no default export"):
        library.classic("var a=1;export{a as b};")


def test_without_the_bundles_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "itables", None)
    with pytest.raises(BenchError, match=r"the site needs itables: pip install 'defence-bench\[site\]'"):
        library.files.__wrapped__()


def test_two_stores_make_one_site(own: tuple[Path, Path], tmp_path: Path, artifacts: Path) -> None:
    """Of the same cells: each has its page, and no link is dead."""
    write.site([own[0], own[0]], tmp_path, artifacts=artifacts)
    names = {path.name for path in (tmp_path / "cells").glob("*.html")}
    one = {path.name for path in (own[1] / "cells").glob("*.html")}
    assert names == {f"{number}-{name}" for number in (0, 1) for name in one}
    check_links(tmp_path)


def test_json_in_a_page_can_not_end_its_element() -> None:
    assert "</script>" not in write._script({"a": "</script>"}) and json.loads(write._script({"a": "<"})) == {"a": "<"}
