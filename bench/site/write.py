"""Stores -> the files of a site, which opens from disk. Imports no torch.

index.html is the leaderboard; beside it papers, experiments, audits, cells/<key>.html, compare.html and what explains them;
data/ has every table as a file, lib/ the scripts of others.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt

from bench.api.stored import keys
from bench.audit import leaderboard, show
from bench.core.errors import BenchError
from bench.core.version import VERSION
from bench.report.formats.pieces import pieces
from bench.report.formats.write import save
from bench.site import cells, charts, compare, downloads, experiments, glossary, library, papers, pictures
from bench.site.cells import CellPage
from bench.site.experiments import Experiment, Shown

ASSETS = ("site.css", "site.js", "compare.js")
PROTOCOL = Path(__file__).resolve().parents[1] / "audit" / "README.md"


@dataclass(frozen=True)
class ShownTable:
    """A table of a page: where its files lie, and its address on the page."""

    shown: Shown
    stem: str
    files: dict[str, str]


@dataclass(frozen=True)
class Placed:
    """An experiment with its page, the page that has its tables, and where its numbers lead: cell's key -> page."""

    e: Experiment
    stem: str
    tables: tuple[ShownTable, ...]
    figures: dict[str, list[str]]  # title -> files
    page: str
    of: str
    links: dict[str, str]


@dataclass
class Site:
    """What is found while the pages are written."""

    stores: Sequence[Path]
    out: Path
    env: Environment
    pages: list[Path] = field(default_factory=list)
    cells: list[tuple[CellPage, str]] = field(default_factory=list)  # with the path of its page
    linked: dict[tuple[Path, str], str] = field(default_factory=dict)  # store, key -> path of the page
    damaged: list[str] = field(default_factory=list)

    def page(self, template: str, path: str, title: str, **content: object) -> None:
        root = "../" * path.count("/")
        text = self.env.get_template(template).render(root=root, title=title, here=path, version=VERSION, **content)
        self.pages.append(save(self.out / path, text.encode()))

    def prefix(self, number: int) -> str:
        return f"{number}-" if len(self.stores) > 1 else ""


def site(stores: Sequence[Path], out: Path, only: Sequence[str] = (), artifacts: Path | None = None) -> list[Path]:
    """The pages written. only: these experiments and their cells alone. artifacts: where kept images lie, <store>/artifacts if
    None. Raises BenchError where a store is no folder or `out` can't be written."""
    for store in stores:
        if not store.is_dir():
            raise BenchError(f"{store} is no folder; name a store, such as results")
    env = Environment(loader=PackageLoader("bench.site"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    env.globals |= {"pieces": pieces, "script": _script}
    made = Site(stores, out, env)
    assert env.loader
    for name in ASSETS:
        save(out / name, env.loader.get_source(env, name)[0].encode())
    for name, content in library.files().items():
        save(out / name, content)
    found = [
        (number, each)
        for number, store in enumerate(stores)
        for name in only or experiments.reported(store)
        if not (each := experiments.read(store, name)).keys.isdisjoint(keys(store))
    ]
    if lacking := [name for name in only if name not in {each.name for _, each in found}]:
        raise BenchError(f"no store has a record of experiment {lacking[0]}; stores: {', '.join(map(str, stores))}")
    _cells(made, [each for _, each in found], narrowed=bool(only), artifacts=artifacts)
    _experiments(made, found)
    _leaderboard(made)
    _about(made)
    return made.pages


def _script(content: object) -> str:
    """JSON for a <script> element: nothing in it can end the element."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


# --- cells -----------------------------------------------------------------------------------------------------------


def _cells(made: Site, found: Sequence[Experiment], narrowed: bool, artifacts: Path | None) -> None:
    shown: dict[str, list[int]] = {}
    for number, store in enumerate(made.stores):
        experiment = {key: each.name for each in found if each.store == store for key in each.keys}
        for key in [each for each in keys(store) if each in experiment or not narrowed]:
            try:
                page = cells.read(store, key, experiment.get(key, ""))
                kept = pictures.load(artifacts or store / "artifacts", key)
            except BenchError as error:
                made.damaged.append(str(error))
                continue
            path = f"cells/{made.prefix(number)}{key}.html"
            made.cells.append((page, path))
            made.linked[store, key] = path
            outcomes = _outcomes(page) if kept else {}
            drawn = pictures.write(made.out, path.removesuffix(".html"), kept, outcomes)
            shown[path] = [each.sample for each in drawn]
            made.page("cell.html", path, page.name, c=page, pictures=drawn)
    made.page("cells.html", "cells.html", "Cells", cells=made.cells, damaged=made.damaged)
    attacked = [(page, path) for page, path in made.cells if page.attacked]
    tables = [(tables_page(each, made.prefix(made.stores.index(each.store)) + each.name), each) for each in found]
    save(made.out / "compare-data.js", compare.data(attacked, shown, tables).encode())
    made.page("compare.html", "compare.html", "Compare two cells or rows")


def _outcomes(page: CellPage) -> dict[int, tuple[str, str]]:
    """A sample's outcome, and what a caption says of it."""
    found = {}
    for row in page.samples:
        values = dict(zip(page.columns, row, strict=True))
        rest = [
            f"{name} {value}"
            for name, value in values.items()
            if value is not None and name not in ("sample", "outcome")
        ]
        found[int(values["sample"])] = (str(values["outcome"]), ", ".join(rest))
    return found


# --- experiments and papers ------------------------------------------------------------------------------------------


def _experiments(made: Site, found: Sequence[tuple[int, Experiment]]) -> None:
    """A page an experiment, and a page a paper with the tables of its experiments."""
    placed = [_placed(made, made.prefix(number) + each.name, each) for number, each in found]
    of_papers: dict[str, list[Placed]] = {}
    for one in placed:
        made.page("experiment.html", one.page, one.e.title, one=one)
        if one.e.paper:
            of_papers.setdefault(one.e.paper, []).append(one)
    shown_papers = {key: (papers.papers()[key], each) for key, each in of_papers.items()}
    for key, (paper, each) in shown_papers.items():
        made.page("paper.html", f"paper-{key}.html", paper.name, paper=paper, experiments=each)
    made.page("papers.html", "papers.html", "Papers", papers=shown_papers)
    made.page("experiments.html", "experiments.html", "Experiments", experiments=placed)


def _placed(made: Site, stem: str, e: Experiment) -> Placed:
    """Writes what the experiment's pages lead to: its tables and figures as files."""
    tables = []
    for shown in e.tables:
        name = f"{stem}-{shown.table.name}"
        tables.append(ShownTable(shown, name, downloads.of_table(made.out, name, shown)))
    figures: dict[str, list[str]] = {}
    for name, (title, svg) in e.figures.items():
        both = [path for path in (svg, svg.with_name(f"{svg.name[:-4]}.png")) if path.exists()]
        figures[title] = [f"figures/{stem}-{name}{path.suffix}" for path in both]
        for path, to in zip(both, figures[title], strict=True):
            save(made.out / to, path.read_bytes())
    links = {key: path for (store, key), path in made.linked.items() if store == e.store}
    return Placed(e, stem, tuple(tables), figures, f"experiment-{stem}.html", tables_page(e, stem), links)


def tables_page(e: Experiment, stem: str) -> str:
    """A paper's page has the tables of its experiments."""
    return f"paper-{e.paper}.html" if e.paper else f"experiment-{stem}.html"


# --- audits ----------------------------------------------------------------------------------------------------------


def _leaderboard(made: Site) -> None:
    audits = [audit for store in made.stores for audit in leaderboard.read(store / "audits")]
    rows, pages = leaderboard.rows(audits), list[str]()
    for audit in audits:
        name = f"audit {audit['name']} {audit['threat']} {audit['level']}".lower()
        slug = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
        pages.append(f"{slug}.html" if f"{slug}.html" not in pages else f"{slug}-{len(pages)}.html")
        table = [each for each in audit["steps"] if not each["refused"]]
        made.page(
            "audit.html",
            pages[-1],
            audit["name"],
            a=audit,
            steps=table,
            facts=show.facts(audit),
            chart=charts.sent(table),
        )
    files = downloads.of_rows(made.out, "leaderboard", rows, leaderboard.COLUMNS) if rows else {}
    made.page("index.html", "index.html", "Leaderboard", files=files, audits=list(zip(audits, rows, pages, strict=True)),
              columns=leaderboard.COLUMNS)  # fmt: skip


# --- what explains them ----------------------------------------------------------------------------------------------


def _about(made: Site) -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    made.page("protocol.html", "protocol.html", "Protocol", text=MarkdownIt("commonmark").enable("table").render(text))
    made.page("glossary.html", "glossary.html", "Glossary and data dictionary", words=glossary.WORDS, table=glossary.TABLE,
              records=glossary.records(), metrics=glossary.metrics())  # fmt: skip
