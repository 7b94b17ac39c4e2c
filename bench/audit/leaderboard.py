"""The leaderboard: every audit of a store as one table, claimed beside remains. Imports no torch."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.config.overrides import without_places
from bench.core.errors import BenchError
from bench.core.place import Place

COLUMNS = (
    "defence",
    "data set",
    "threat",
    "n",
    "clean",
    "claimed",
    "by",
    "remains",
    "gap",
    "flags",
    "time",
    "level",
    "protocol",
    "date",
)


def read(folder: Place, level: str | None = None) -> list[dict[str, Any]]:
    """The pages of one level, or of all, below a store's `audits`."""
    pages = []
    for path in sorted(folder.glob("*.json")):
        try:
            page = json.loads(path.read_text())
        except ValueError:
            raise BenchError(f"{path} is no audit's page (not JSON); delete it and run its audit again") from None
        if level in (None, page["level"]):
            pages.append({"name": _title(page)} | page)
    return sorted(
        pages, key=lambda page: (page["subject"]["dataset"], page["threat"], -page["remains"]["value"], page["name"])
    )


def portable(page: Mapping[str, Any]) -> dict[str, Any]:
    """For others to read: its commands without the words that only say where files lie on this machine."""
    return {
        **page,
        "command": without_places(page["command"]),
        "words": [word for word in page["words"] if without_places(f" {word}")],
        "steps": [{**step, "command": without_places(step["command"])} for step in page["steps"]],
    }


def _title(page: Mapping[str, Any]) -> str:
    subject = page["subject"]
    return f"{subject['defense']} on {subject['model']}, {subject['dataset']}"


def rows(pages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """A line an audit, as text; the order of COLUMNS."""
    return [
        {
            "defence": page["name"],
            "data set": page["subject"]["dataset"],
            "threat": page["threat"],
            "n": str(page["clean"]["n"]),
            "clean": f"{page['clean']['value']:.1f}",
            "claimed": f"{page['claimed']['value']:.1f}",
            "by": page["claimed"]["by"],
            "remains": f"{page['remains']['value']:.1f} [{page['remains']['low']:.1f}, {page['remains']['high']:.1f}]",
            "gap": f"{page['gap']:.1f}",
            "flags": str(len(page["flags"])),
            "time": f"{page['facts']['slowdown']:.2f}x",
            "level": page["level"],
            "protocol": str(page["protocol"]),
            "date": page["date"],
        }
        for page in pages
    ]


def markdown(found: Sequence[Mapping[str, str]], pages: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "# Leaderboard",
        "",
        "Percent of all images; what remains is the per-image worst case, re-evaluated where random.",
        "",
    ]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(row[name] for name in COLUMNS) + " |" for row in found]
    lines += ["", "## Flags", ""]
    lines += [f"- {page['name']}: {'; '.join(page['flags'])}" for page in pages if page["flags"]]
    lines += ["", "## Commands", "", *(f"- {page['name']}: `{page['command']}`" for page in pages)]
    return "\n".join(lines) + "\n"


def comma_separated(found: Sequence[Mapping[str, str]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)  # pyright: ignore[reportArgumentType]
    return out.getvalue()
