"""What an entry says, for each format to arrange. Imports no torch."""

import math
from dataclasses import dataclass

from bench.report.table import Entry

PAPER = "paper"  # stands before every printed number


@dataclass(frozen=True)
class Pieces:
    """What an entry says, for each format to arrange; what is not known is empty."""

    value: str  # 51.0; – where the cell is missing. A footnote mark would belong behind it.
    span: str = ""  # [45.4, 56.6]
    paper: str = ""  # 51.22
    gap: str = ""  # (-0.2)
    outside: str = ""  # * where the paper's number lies outside our interval


def pieces(entry: Entry) -> Pieces:
    paper = "" if entry.printed is None else f"{entry.printed:g}"
    ours = entry.ours
    if ours is None:
        return Pieces("–", paper=paper)
    if math.isnan(ours.value):
        return Pieces(f"none of {ours.n}", paper=paper)
    digits = entry.kind.digits
    span = "" if math.isnan(ours.low) else f"[{ours.low:.{digits}f}, {ours.high:.{digits}f}]"
    gap = "" if entry.difference is None else f"({entry.difference:+.{digits}f})"
    of = f" (n={ours.n})" if entry.apart else ""
    return Pieces((ours.shown or f"{ours.value:.{digits}f}") + of, span, paper, gap, "*" if entry.outside else "")


def text(entry: Entry | None, gap_between: str = " ") -> str:
    """`51.0 [45.4, 56.6] paper 51.22 (-0.2)`, with * where the paper's number lies outside our interval."""
    if entry is None:
        return ""
    p = pieces(entry)
    return gap_between.join(part for part in (p.value, p.span, printed(p), entry.published) if part)


def printed(p: Pieces) -> str:
    """`paper 51.22 (-0.2)`, empty where there is no printed number."""
    return f"{PAPER} {p.paper} {p.gap}{p.outside}".rstrip() if p.paper else ""
