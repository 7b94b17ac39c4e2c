"""Vega-Lite specifications of a page's pictures. Each carries its own numbers; `description` is its alternative text. Imports no
torch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BLUE, ORANGE, GREY = "#0b5394", "#b45309", "#5f6368"
BASE: dict[str, Any] = {
    "$schema": "https://vega.github.io/schema/vega-lite/v6.json",  # a name, nobody fetches it
    "width": "container",
    "height": 220,
    "autosize": {"type": "fit-x", "contains": "padding"},
    "config": {
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {"labelColor": "#333", "titleColor": "#333", "labelFontSize": 12, "titleFontSize": 12,
                 "titleFontWeight": "normal", "gridColor": "#e5e5e5", "domainColor": "#888", "tickColor": "#888"},
        "axisX": {"grid": False},
    },
}  # fmt: skip


def curve(points: Sequence[tuple[int, float]], budget: int) -> dict[str, Any]:
    """Robust accuracy (percent) by the number of queries: (queries, percent), falling steps, on to the budget."""
    values = [{"q": max(q, 1), "r": round(r, 2)} for q, r in [*points, (budget, points[-1][1])]]
    ends = f"{points[0][1]:.1f} percent when clean, {points[-1][1]:.1f} after {budget:,} queries"
    description = f"Robust accuracy against queries: {ends}."
    return _of(values, description) | {
        "mark": {"type": "line", "interpolate": "step-after", "color": BLUE, "strokeWidth": 2},
        "encoding": {
            "x": {"field": "q", "type": "quantitative", "scale": {"type": "log"}, "title": "queries",
                  "axis": {"tickCount": 5, "format": "~s"}},
            "y": {"field": "r", "type": "quantitative", "scale": {"domain": [0, 100]}, "title": "robust accuracy, percent"},
            "tooltip": [{"field": "q", "title": "queries"}, {"field": "r", "title": "percent"}],
        },
    }  # fmt: skip


def sent(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Of an audit's query attacks (those whose step tells at which queries images broke): percent of the images that each was
    sent against which still stand. None where there is no such attack."""
    known = [step for step in steps if step.get("curve")]
    if not known:
        return None
    values = []
    for step in known:
        at = sorted(step["curve"])
        left = [100 * (1 - (i + 1) / step["tried"]) for i in range(len(at))]
        ends = [(1, 100.0), *zip(at, left, strict=True)]
        values += [{"q": max(q, 1), "r": round(r, 2), "a": step["name"]} for q, r in ends]
    description = [f"{step['name']}: {len(step['curve'])} of {step['tried']} broken" for step in known]
    x = {"field": "q", "type": "quantitative", "scale": {"type": "log"}, "title": "queries", "axis": {"tickCount": 5}}
    y = {"field": "r", "type": "quantitative", "scale": {"domain": [0, 100]}, "title": "stand, percent"}
    colour = {"field": "a", "type": "nominal", "title": None, "legend": {"orient": "bottom", "columns": 1, "labelLimit": 0},
              "scale": {"range": [BLUE, ORANGE, "#00724f", "#9c3f74", "#333"]}}  # fmt: skip
    dash = {"field": "a", "type": "nominal", "title": None}
    return _of(values, "; ".join(description) + ".") | {
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
        "encoding": {"x": x, "y": y, "color": colour, "strokeDash": dash},
    }


def trace(at: np.ndarray, middle: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
    """(T,) each. The mean of the lowest margin so far, with its 95% interval."""
    rows = zip(at, middle, low, high, strict=True)
    values = [{"q": int(q), **{n: _plain(v) for n, v in zip("mlh", each, strict=True)}} for q, *each in rows]
    ends = f"{middle[0]:.2f} at query {at[0]}, {middle[-1]:.2f} at query {at[-1]}"
    description = f"Mean of the lowest margin so far: {ends}; below 0 an image fools."
    x = {
        "field": "q",
        "type": "quantitative",
        "scale": {"type": "log"},
        "title": "queries",
        "axis": {"tickCount": 5, "format": "~s"},
    }
    y = {"type": "quantitative", "title": "lowest margin so far (mean)"}
    zero = {"mark": {"type": "rule", "color": GREY, "strokeDash": [4, 3]}, "encoding": {"y": {"datum": 0}}}
    band = {"mark": {"type": "area", "color": BLUE, "opacity": 0.18},
            "encoding": {"x": x, "y": {"field": "l", **y}, "y2": {"field": "h"}}}  # fmt: skip
    line = {"mark": {"type": "line", "color": BLUE, "point": True}, "encoding": {"x": x, "y": {"field": "m", **y}}}
    return _of(values, description) | {"layer": [band, zero, line]}


def histogram(numbers: np.ndarray, title: str, log: bool = False, bins: int = 24) -> dict[str, Any]:
    """How many images at which value."""
    known = numbers[np.isfinite(numbers)]
    known = np.maximum(known, 1) if log else known
    scaled = np.log10(known) if log else known
    counts, edges = np.histogram(scaled, bins=min(bins, max(len(known), 1)))
    edges = 10**edges if log else edges
    values = [{"a": _plain(a), "b": _plain(b), "n": int(n)} for a, b, n in zip(edges, edges[1:], counts, strict=False)]
    ends = f"median {np.median(known):.4g}, from {known.min():.4g} to {known.max():.4g}"
    description = f"Distribution of {title} over {len(known)} images: {ends}."
    scale = {"type": "log"} if log else {"zero": False}
    axis = {"tickCount": 5, "format": "~s" if log else "~g"}
    return _of(values, description) | {
        "mark": {"type": "bar", "color": ORANGE, "stroke": "#fff", "strokeWidth": 0.5},
        "encoding": {
            "x": {"field": "a", "type": "quantitative", "scale": scale, "title": title, "axis": axis},
            "x2": {"field": "b"},
            "y": {"field": "n", "type": "quantitative", "title": "images", "axis": {"tickMinStep": 1}},
            "y2": {"datum": 0},
            "tooltip": [{"field": "a", "title": "from", "format": ".4~g"}, {"field": "b", "title": "to", "format": ".4~g"},
                        {"field": "n", "title": "images"}],
        },
    }  # fmt: skip


def _of(values: list[dict[str, Any]], description: str) -> dict[str, Any]:
    return BASE | {"description": description, "data": {"values": values}}


def _plain(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None
