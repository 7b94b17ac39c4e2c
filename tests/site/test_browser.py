"""The site in headless Chromium, opened from disk: every page, sorting, filters, switches, the comparison of two cells."""

import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bench.api import compared
from bench.audit import leaderboard
from bench.site import cells, compare
from bench.store.published import FOLDER

pytestmark = pytest.mark.browser
WIDTHS = (1280, 390)
LEADS = "() => [...document.querySelectorAll('a[href]')].map(a => a.href)"
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


HIDDEN_HEADS = """() => [...document.querySelectorAll('.wide table')].filter(table => {
    const frame = table.closest('.dt-layout-table') ?? table.closest('.wide');
    return table.tHead && table.tHead.getBoundingClientRect().top < frame.getBoundingClientRect().top - 1; }).length"""
# text on its own background with a contrast below 4.5 : 1 (WCAG 2.1, 1.4.3), large and unseen text left out
PALE = """() => {
    const parts = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = e => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor);
        if (c.length < 4 || c[3] === 1) return c; } return [255, 255, 255]; };
    const own = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    return [...document.querySelectorAll('body *:not(svg *, script, style, noscript, option)')].filter(own)
        .filter(e => e.checkVisibility() && !e.closest('.disabled')).filter(e => {
        const [a, b] = [light(parts(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05) < 4.5; }).map(e => e.outerHTML.slice(0, 120)); }"""
UNNAMED = """() => [...document.querySelectorAll('input,select,button')].filter(
    each => !each.labels?.length && !each.ariaLabel && !each.textContent.trim()).length"""


class Tab:
    """A page that notes what went wrong on it."""

    def __init__(self, browser: Any) -> None:
        self.page, self.troubles = browser.new_page(viewport={"width": WIDTHS[0], "height": 900}), list[str]()
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.troubles.append(said.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on(
            "request", lambda one: one.url.split(":")[0] in ("file", "data", "blob") or self.troubles.append(one.url)
        )
        self.page.on("requestfailed", lambda one: self.troubles.append(f"failed: {one.url}"))

    def open(self, path: Path, place: str = "") -> Any:
        self.page.goto("about:blank")  # a change of #place alone loads nothing anew
        self.page.goto(path.as_uri() + place)
        return self.page


@pytest.fixture
def tab(browser: Any) -> Any:
    made = Tab(browser)
    yield made
    made.page.close()


def column(page: Any, table: str, head: str) -> list[str]:
    """The shown texts of a column."""
    return page.evaluate(
        """([table, head]) => { const t = document.getElementById(table);
        const i = [...t.tHead.rows[0].cells].findIndex(c => c.textContent.trim() === head);
        return [...t.tBodies[0].rows].map(r => r.cells[i].textContent.trim()); }""",
        [table, head],
    )


def soon(condition: Callable[[], bool], said: str = "") -> None:
    """A page answers a click when it gets to it, later on a busy machine."""
    ends = time.monotonic() + 10
    while not condition() and time.monotonic() < ends:
        time.sleep(0.02)
    assert condition(), said


@pytest.mark.parametrize("which", ["built", "own"])
def test_every_page_is_whole(which: str, request: pytest.FixtureRequest, tab: Tab) -> None:
    """From the leaderboard along every link (of cells one a kind; test_site follows the links of all): no console error, no
    other host, no overflow at either width, no head out of its frame, an alternative text a picture, a name a form field."""
    given = request.getfixturevalue(which)
    root = given if which == "built" else given[1]
    left, seen = ["index.html"], set[str]()
    while left:
        name = left.pop()
        page = tab.open(root / name)
        page.wait_for_function("() => document.querySelectorAll('.chart .plot:not(:has(svg))').length === 0")
        for link in dict.fromkeys(page.evaluate(LEADS)):
            below = link.split("#")[0].removeprefix(root.as_uri() + "/")
            assert (root / below).is_file(), f"{name} -> {link}"
            if below.endswith(".html") and kind(root, below) not in {kind(root, each) for each in (*seen, *left)}:
                left.append(below)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            soon(lambda page=page: page.evaluate(OVERFLOW) <= 0, f"{name} runs out at {width} px")
            soon(
                lambda page=page: page.evaluate(HIDDEN_HEADS) == 0, f"{name}: a head is out of its frame at {width} px"
            )
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        assert page.evaluate("() => [...document.images].filter(i => !i.alt).length") == 0, name
        assert page.evaluate(UNNAMED) == 0, name
        assert page.evaluate(PALE) == [], name
        seen.add(name)
        assert not tab.troubles, (name, tab.troubles)
    found = {path.relative_to(root).as_posix() for path in root.rglob("*.html")}
    assert {kind(root, each) for each in found} == {kind(root, each) for each in seen} and len(seen) >= 10


@cache
def kind(root: Path, name: str) -> str:
    """Audits are of one kind, cells of one attack of another; every other page is one of its own."""
    if not name.startswith("cells/"):
        return "audit" if name.startswith("audit-") else name
    return (root / name).read_text().partition("<h1>")[2].partition(" on ")[0].partition(",")[0]


def test_the_leaderboard_sorts_filters_and_is_the_audits(built: Path, tab: Tab) -> None:
    page = tab.open(built / "index.html")
    audits = leaderboard.read(FOLDER / "audits")
    rows = leaderboard.rows(audits)
    assert column(page, "board", "claimed") == [row["claimed"] for row in rows]
    assert [each.split()[0] for each in column(page, "board", "remains")] == [row["remains"].split()[0] for row in rows]
    page.get_by_role("button", name="gap: Activate to sort").click()
    gaps = sorted(round(audit["gap"], 1) for audit in audits)
    soon(lambda: [float(each) for each in column(page, "board", "gap")] == gaps)
    page.get_by_role("button", name="gap: Activate to invert sorting").press("Enter")  # by keyboard
    soon(lambda: column(page, "board", "gap") == [f"{gap:.1f}" for gap in reversed(gaps)])
    page.get_by_label("flags", exact=True).select_option("no flag")
    unflagged = sum(not audit["flags"] for audit in audits)
    soon(lambda: column(page, "board", "flags") == ["0"] * unflagged)
    soon(lambda: page.locator(".dumbbells li:visible").count() == unflagged)
    page.get_by_label("flags", exact=True).select_option("all")
    page.get_by_label("Search").fill("GCM")
    named = [audit["name"] for audit in audits if "GCM" in audit["name"]]
    soon(lambda: sorted(column(page, "board", "defence")) == sorted(named))  # still by gap


def test_a_hostile_name_runs_nothing(own: tuple[Path, Path], tab: Tab) -> None:
    page = tab.open(own[1] / "index.html")
    assert page.evaluate("() => window.broken") is None and "<script>" in page.inner_text("#board")
    assert [each.split()[0] for each in column(page, "board", "remains")] == ["50.0", "40.0"]


def test_switches_hide_and_the_first_columns_stay(built: Path, tab: Tab) -> None:
    page = tab.open(built / "paper-unig.html")
    for label, kind in (("intervals", "span"), ("the paper's numbers", "paper")):
        assert page.locator(f".{kind}:visible").count() > 0
        page.get_by_role("checkbox", name=label).press("Space")
        soon(lambda kind=kind: page.locator(f".{kind}:visible").count() == 0)
        page.get_by_role("checkbox", name=label).check()
        soon(lambda kind=kind: page.locator(f".{kind}:visible").count() > 0)
    page = tab.open(built / "experiment-digits_square.html")
    assert page.locator("th.smaller:visible").count() == 1
    page.get_by_label("smaller budgets").uncheck()
    soon(lambda: page.locator(".smaller:visible").count() == 0)
    assert page.get_by_text("Square-2500", exact=True).is_visible()
    page.get_by_label("smaller budgets").check()
    page.set_viewport_size({"width": 390, "height": 900})
    frame, first = page.locator(".wide").first, page.locator(".printed tbody th").first
    before = first.bounding_box()
    frame.evaluate("e => { e.scrollLeft = 200; }")
    assert frame.evaluate("e => e.scrollLeft") > 0 and first.bounding_box() == before


@pytest.mark.parametrize("width", WIDTHS)
def test_what_remains_stays_in_view(own: tuple[Path, Path], tab: Tab, width: int) -> None:
    """Of a wide table whose name, clean accuracy, worst case and flags stand first."""
    heads = ["clean acc", "worst case", "flags", *(f"attack {i}" for i in range(30))]
    cells = "".join(f'<{{tag}} class="{"kept verdict" if i < 3 else ""}">{{{i}}}</{{tag}}>' for i in range(len(heads)))
    rows = [cells.format(*heads, tag="th"), cells.format(*["12.5"] * len(heads), tag="td")]
    first = ["<td class='kept'></td>", "<th class='kept'>A defence</th>"]
    head, body = (f"<tr>{a}{b}</tr>" for a, b in zip(first, rows, strict=True))
    table = f'<div class="wide"><table class="printed"><thead>{head}</thead><tbody>{body}</tbody></table></div>'
    page = tab.open(own[1] / "papers.html")
    page.evaluate("table => { document.querySelector('main').innerHTML = table; }", table)
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("() => { document.querySelector('.wide').scrollLeft = 900; dispatchEvent(new Event('resize')); }")
    worst, name = page.locator("tbody td").nth(1).bounding_box(), page.locator("tbody th").bounding_box()
    assert 0 <= name["x"] < worst["x"] < width / 2 and name["x"] + name["width"] <= worst["x"] + 1
    covered = "([x, y]) => document.elementFromPoint(x, y).closest('td').cellIndex"
    assert page.evaluate(covered, [worst["x"] + worst["width"] / 2, worst["y"] + 5]) == 2


def test_samples_filter_and_name_their_pictures(own: tuple[Path, Path], tab: Tab) -> None:
    _, site = own
    data = json.loads((site / "compare-data.js").read_text().removeprefix("window.BENCH=").rstrip(";\n"))
    one = next(each for each in data["cells"] if each["name"].startswith("Square, 60 queries on small_cnn,"))
    page = tab.open(site / one["page"])
    outcomes = column(page, "samples", "outcome")
    assert len(outcomes) == 30 and outcomes.count("broken") > 2
    page.get_by_label("outcome", exact=True).select_option("broken")
    soon(lambda: column(page, "samples", "outcome") == ["broken"] * outcomes.count("broken"))
    queries = sorted(int(each) for each in column(page, "samples", "queries"))
    page.get_by_label("queries to", exact=True).fill(str(queries[1]))
    within = [q for q in queries if q <= queries[1]]
    soon(lambda: sorted(int(each) for each in column(page, "samples", "queries")) == within)
    page.locator("#samples tbody a").first.click()
    soon(lambda: page.evaluate("() => location.hash") != "")
    place = page.evaluate("() => location.hash.slice(1)")
    assert page.locator(f"li#{place} img").count() == 3
    assert page.locator(f"li#{place} img").first.evaluate("i => i.decode().then(() => i.naturalWidth)") == 8


def test_the_comparison_is_the_verbs(own: tuple[Path, Path], tab: Tab) -> None:
    store, site = own
    data = json.loads((site / "compare-data.js").read_text().removeprefix("window.BENCH=").rstrip(";\n"))
    keys = [each["key"] for each in data["cells"]]
    assert len(keys) == 3
    differences = {(a, b): compared.cells(store, a, b).difference for a in keys for b in keys}
    most = max(differences, key=lambda pair: differences[pair])
    assert differences[most] > 0
    page = tab.open(site / "compare.html", f"#a={most[0]}&b={most[1]}")
    for a, b in ((0, 1), (1, 2), (2, 0), (0, 0)):
        wanted = compared.cells(store, keys[a], keys[b])
        found = page.evaluate("([a, b]) => compared(BENCH.cells[a], BENCH.cells[b])", [a, b])
        told = [found[name] for name in ("n", "a", "b", "difference", "low", "high", "p")]
        assert told == pytest.approx(
            [wanted.n, wanted.robust_a, wanted.robust_b, wanted.difference, wanted.low, wanted.high, wanted.p]
        )
        assert (len(found["onlyA"]), len(found["onlyB"])) == (wanted.only_a, wanted.only_b)
    both = [cells.read(store, key) for key in keys[:2]]
    counted = (
        "() => { const one = stands({ cells: [0, 1] }); return [one.size, [...one.values()].filter(Boolean).length]; }"
    )
    assert page.evaluate(counted) == [len(compare.robust(both)), sum(compare.robust(both))]
    first = compared.cells(store, *most)
    assert f"{first.difference:+.1f} [{first.low:+.1f}, {first.high:+.1f}]" in page.inner_text("#result")
    assert f"Robust in B alone: {first.only_b} images" in page.inner_text("#result")
    assert page.locator("#result .pictures img").count() >= 3
    page.get_by_role("button", name="swap").click()
    soon(lambda: f"{-first.difference:+.1f} [" in page.inner_text("#result"))
    page.get_by_label("A", exact=True).fill("nothing")
    soon(lambda: "choose two" in page.inner_text("#result"))


def test_cells_of_an_experiment_are_one_link_away(built: Path, tab: Tab) -> None:
    page = tab.open(built / "experiment-digits_square.html")
    page.get_by_role("link", name="Its cells").click()
    page.wait_for_selector("#cells.dataTable")
    assert set(column(page, "cells", "experiment")) == {"digits_square"}


def test_on_paper_nothing_is_cut(built: Path, tab: Tab) -> None:
    page = tab.open(built / "experiment-digits_square.html")
    page.emulate_media(media="print")
    assert page.locator(".switches:visible, nav:visible").count() == 0
    assert page.locator(".wide").first.evaluate("e => getComputedStyle(e).overflow") == "visible"
