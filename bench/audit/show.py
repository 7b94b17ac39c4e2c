"""The verdict as one page: terminal, markdown, HTML and JSON. Imports no torch."""

import html
import json
import re
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.core.place import Place
from bench.report.formats.page import STYLE
from bench.report.formats.write import save


def write(folder: Place, stem: str, page: dict[str, Any]) -> list[Place]:
    """<stem>.json, .md and .html, each whole or not there at all."""
    contents = {".json": json.dumps(page, indent=1) + "\n", ".md": markdown(page), ".html": as_html(page)}
    return [save(folder / f"{stem}{ending}", content.encode()) for ending, content in contents.items()]


def keep(folder: Place, clean_key: str, page: dict[str, Any]) -> list[Place]:
    """Writes the page under a name of its own: an audit is of a victim, a threat and a level. The same audit's page is written
    over, also one of an older version, whose name told no threat."""
    old = folder / f"{clean_key}-{page['level']}.json"
    if _threat(old) in ("", page["threat"]):
        for ending in (".json", ".md", ".html"):
            (folder / f"{clean_key}-{page['level']}{ending}").unlink(missing_ok=True)
    threat = re.sub(r"[^a-z0-9]+", "_", page["threat"].lower())
    return write(folder, f"{clean_key}-{threat}-{page['level']}", page)


def _threat(file: Place) -> str:
    """That a page names; "" for no page, or one that can't be read."""
    try:
        return str(json.loads(file.read_text())["threat"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def headline(page: dict[str, Any]) -> str:
    return (
        f"claimed {_number(page['claimed'])} ({page['claimed']['by']}); "
        f"remains {_number(page['remains'])}; gap {page['gap']:.1f} points"
    )


def title(page: dict[str, Any]) -> str:
    subject = page["subject"]
    return f"{subject['defense']} on {subject['model']}, {subject['dataset']}, {page['threat']}"


def _number(value: dict[str, float]) -> str:
    return f"{value['value']:.1f} [{value['low']:.1f}, {value['high']:.1f}]"


def facts(page: dict[str, Any]) -> list[str]:
    found, draws = page["facts"], page["facts"]["clean_draws"]
    traits = [name for name in ("stochastic", "coupled", "stateful", "differentiable") if found[name]]
    clean = f"clean accuracy {sum(draws) / len(draws):.1f}"
    if len(draws) > 1:
        clean += f" (mean of {len(draws)} draws, worst {min(draws):.1f})"
    return [
        f"n = {page['clean']['n']} images; protocol {page['protocol']}, level {page['level']}, {page['date']}",
        f"traits, each seen by experiment: {', '.join(traits) or 'deterministic, rows apart, no gradient'}",
        f"{clean}; logits move by {found['logit_difference']:.2f} (l2) from the bare network's",
        f"{found['parameters'] / 1e6:.2f} million parameters, {found['macs'] / 1e9:.3g} GMac an image, "
        f"{found['slowdown']:.2f} times the bare network's time",
    ]


def _below(page: dict[str, Any]) -> list[str]:
    lines = [f"flag: {each}" for each in page["flags"]] or ["flags: none"]
    lines.append(f"undecided: {page['undecided']}")
    if page.get("by_eps"):
        lines.append("by eps: " + "; ".join(f"{left:.1f} stand under {name}" for name, left in page["by_eps"]))
    lines += _cost(page)
    lines += [f"not tried: {each['step']}: {each['why']}" for each in page["not_tried"]]
    return [*lines, f"again: {page['command']}"]


def _cost(page: dict[str, Any]) -> list[str]:
    run = {each["name"]: each["rows"] for each in page["steps"]}
    if not any(run.values()):
        return []
    total, dearest = sum(run.values()), max(run, key=lambda name: run[name])
    return [f"cost: {total:,} network rows, {total / run[dearest]:.1f} times those of its dearest attack ({dearest})"]


COLUMNS = ("attack", "sent against", "breaks", "adds", "network rows", "seconds")


def _rows(page: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (each["name"] + (" *" if each["usual"] else ""), str(each["tried"]), str(each["broken"]), str(each["adds"]),
         f"{each['rows']:,}", f"{each['seconds']:.0f}")
        for each in page["steps"] if not each["refused"]
    ]  # fmt: skip


def terminal(page: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(f"\n[bold]{title(page)}[/bold]")
    console.print(headline(page), style="bold", soft_wrap=True)
    for line in facts(page):
        console.print(f"  {line}", soft_wrap=True, markup=False)
    table = Table(box=None, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "attack" else "right")
    for row in _rows(page):
        table.add_row(*row)
    console.print(table)
    for line in _below(page):
        console.print(f"  {line}", soft_wrap=True, markup=False)


def markdown(page: dict[str, Any]) -> str:
    head = ["# " + title(page), "", f"**{headline(page)}**", "", *(f"- {line}" for line in facts(page)), ""]
    table = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    table += ["| " + " | ".join(row) + " |" for row in _rows(page)]
    return (
        "\n".join(
            [*head, *table, "", "\\* what a usual evaluation prints", "", *(f"- {line}" for line in _below(page))]
        )
        + "\n"
    )


def as_html(page: dict[str, Any]) -> str:
    def listed(lines: list[str]) -> str:
        return "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in lines) + "</ul>"

    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(each)}</td>" for each in row) + "</tr>" for row in _rows(page))
    name = html.escape(title(page))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style></head>\n'
        f"<body><h1>{name}</h1><p><strong>{html.escape(headline(page))}</strong></p>{listed(facts(page))}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{listed(_below(page))}</body></html>\n"
    )
