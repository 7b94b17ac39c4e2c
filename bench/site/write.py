"""Stores -> the files of a site: index, a page an experiment, a page an audit, downloads beside. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.audit import leaderboard, show
from bench.core.errors import BenchError
from bench.report.formats.comma_separated import comma_separated
from bench.report.formats.latex import latex
from bench.report.formats.pieces import pieces
from bench.report.formats.write import save
from bench.site import experiments

ASSETS = ("site.css", "site.js")


def site(stores: Sequence[Path], out: Path, only: Sequence[str] = ()) -> list[Path]:
    """The pages written. Raises BenchError where a store is no folder or `out` can't be written."""
    for store in stores:
        if not store.is_dir():
            raise BenchError(f"{store} is no folder; name a store, such as results")
    env = Environment(loader=PackageLoader("bench.site"), autoescape=True, undefined=StrictUndefined)
    for name in ASSETS:
        assert env.loader
        save(out / name, env.loader.get_source(env, name)[0].encode())
    found: list[Path] = []

    def page(template: str, path: str, **content: object) -> None:
        found.append(save(out / path, env.get_template(template).render(**content).encode()))

    audits, links = [], []
    for number, store in enumerate(stores):
        prefix = f"{number}-" if len(stores) > 1 else ""
        for audit in leaderboard.read(store / "audits"):
            audit["page"] = f"audit-{len(audits)}.html"
            audits.append(audit)
            lines = show.markdown(audit).splitlines()
            page("audit.html", audit["page"], audit=audit, title=audit["name"], evidence="\n".join(lines))
        for name in only or experiments.reported(store):
            experiment = experiments.read(store, name)
            stem = f"{prefix}{name}"
            _downloads(experiment, stem, out)
            page("experiment.html", f"{stem}.html", e=experiment, stem=stem, title=name, pieces=pieces)
            links.append((f"{stem}.html", name, str(store)))
    rows = leaderboard.rows(audits)
    page("index.html", "index.html", title="Leaderboard", audits=list(zip(audits, rows, strict=True)),
         columns=leaderboard.COLUMNS, links=links)  # fmt: skip
    return found


def _downloads(experiment: experiments.Experiment, stem: str, out: Path) -> None:
    for shown in experiment.tables:
        save(out / f"{stem}-{shown.table.name}.csv", comma_separated(shown.table).encode())
        save(out / f"{stem}-{shown.table.name}.tex", latex(shown.table, list(shown.notes)).encode())
    for name, path in experiment.figures.items():
        save(out / f"{stem}-{name}.svg", path.read_bytes())
