"""The one exception that people meet: a line that names the value, the rule and the way out."""

from collections.abc import Iterable
from difflib import get_close_matches


class BenchError(Exception):
    """Something a person can put right; its text is one line, shown without a traceback."""


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'square'?` for a near miss, else the whole list of what there is."""
    known = sorted(set(names))
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; there are: {', '.join(known)}"


def one_line(error: BaseException) -> str:
    """An exception of someone else's as one line that names its type."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
