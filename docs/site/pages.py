"""Pages of the documentation that are made of what the code says, so nothing is said twice: the front page (README.md), the
audit's protocol (bench/audit/README.md), the glossary, the columns of a record, verbs, experiments. mkdocs calls `on_files`."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def on_files(files: Files, config: Any) -> Files:
    pages = {
        "index.md": _local((ROOT / "README.md").read_text(encoding="utf-8"), "docs/"),
        "audit.md": _local((ROOT / "bench" / "audit" / "README.md").read_text(encoding="utf-8"), ""),
        "glossary.md": _glossary(),
        "columns.md": _columns(),
        "experiments.md": _experiments(),
        "api.md": API,
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    picture = (ROOT / "results" / "published" / "leaderboard.png").read_bytes()
    files.append(File.generated(config, "leaderboard.png", content=picture))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What lies outside the pages has no link here, but a name."""
    return re.sub(r"\[([^\]]+)\]\((?:\.\./(?!\.)[^)]*|[\w/]*\.ipynb|CONTRIBUTING\.md)\)", r"\1", markdown)


def _local(text: str, folder: str) -> str:
    return text.replace(f"]({folder}", "](").replace("](results/published/leaderboard.png)", "](leaderboard.png)")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _glossary() -> str:
    from bench.site.glossary import WORDS, metrics

    words = _table(("word", "meaning"), sorted(WORDS.items()))
    return f"# Glossary\n\n{words}\n## Metrics\n\n" + _table(("metric", "unit", "meaning"), list(metrics()))


def _columns() -> str:
    from bench.site.glossary import records
    from bench.store.dictionary import PURPOSES

    said = "# The columns of a record\n\n`python -m bench records --csv` writes them, after each cell's settings.\n\n"
    said += _table(("column", "type", "meaning"), list(records()))
    return said + "\n## The ledger\n\n" + _table(("rows", "meaning"), list(PURPOSES.items()))


def _experiments() -> str:
    from bench import verbs
    from bench.config import places

    named = []
    for name in places.choices("experiment"):
        file = places.file("experiment", name)
        assert file is not None
        title = re.search(r"^title: (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        named.append((f"`+experiment={name}`", title[1].strip("\"'") if title else ""))
    groups = [
        (each, ", ".join(f"`{name}`" for name in places.choices(each))) for each in sorted(places.groups() - {"tables"})
    ]
    said = "# Verbs, experiments, groups\n\n" + _table(
        ("verb", ""), [(name, verbs.line(name)) for name in verbs.names()]
    )
    return said + "\n" + _table(("experiment", ""), named) + "\n" + _table(("group", "choices"), groups)


API = """# API

## In Python

::: bench.api.evaluate
    options: {members: [evaluate, Result]}

::: bench.audit.of_objects

::: bench.api.stored
    options: {members: [table, records]}

## A defence

::: defenses.base
    options: {members: [Defense]}

::: bench.core.traits

## An attack

::: attacks.base

::: attacks.foreign.foreign

## What both stand on

::: bench.core.threat

::: bench.core.rng
    options: {members: [Draw, Stream, mix, keys, bits, uniform, normal, integers, signs]}

::: bench.core.ledger

::: bench.core.victim
    options: {members: [Victim, FixedRows]}
"""
