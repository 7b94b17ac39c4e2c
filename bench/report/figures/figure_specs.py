"""What a figure's YAML may say, typed. Imports no torch, nor matplotlib.

figures:
  fig1c: {kind: bars, title: ..., table: table1, columns: [Square-2500, logit diff]}        # a group of bars a row
  fig3a: {kind: lines, title: ..., table: alpha, x: alpha, columns: [...], log_x: true}     # row names are the x values
  fig4: {kind: heatmap, title: ..., table: matrix}                                          # a table's numbers, coloured
  fig6: {kind: scatter, title: ..., table: table1, x: clean acc, columns: [single-step], groups: {IGR: [IGR 1000, IGR 3000]}}
  fig2b: {kind: trace, title: ..., table: table1, column: Square-2500, rows: [Vanilla, RND]}  # margin against queries

`rows` picks and orders a table's rows; without it, all.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bench.config.parse import Frozen, parse
from bench.core.errors import BenchError, nearest
from bench.report.table_specs import Name, Names


def _list(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError(f"must be a list: [{value}]")
    return value


Listed = Annotated[Names, BeforeValidator(_list)]
Some = Annotated[Names, BeforeValidator(_list), Field(min_length=1)]


class Figure(Frozen):
    title: str = ""
    table: Name
    rows: Listed = ()  # none: all of the table


class Bars(Figure):
    kind: Literal["bars"]
    columns: Some


class Lines(Figure):
    kind: Literal["lines"]
    columns: Some
    x: Name = ""  # what the row names are
    log_x: bool = False


class Heatmap(Figure):
    kind: Literal["heatmap"]
    columns: Listed = ()  # none: all of the table


class Scatter(Figure):
    kind: Literal["scatter"]
    columns: Some
    x: Name  # a column
    groups: dict[Name, Some] | None = None  # rows of one method, joined by a line; none: each row alone


class Trace(Figure):
    kind: Literal["trace"]
    column: Name


AnyFigure = Bars | Lines | Heatmap | Scatter | Trace
KINDS: dict[str, type[AnyFigure]] = {
    "bars": Bars, "lines": Lines, "heatmap": Heatmap, "scatter": Scatter, "trace": Trace,
}  # fmt: skip


def figure(name: str, content: Any) -> AnyFigure:
    """The YAML node figures.<name>. Raises BenchError with the nearest right name."""
    kind = str(content.get("kind")) if isinstance(content, Mapping) else "None"
    if kind not in KINDS:
        raise BenchError(f"figures.{name}: kind {kind} is unknown{nearest(kind, KINDS)}")
    return parse(KINDS[kind], content, f"figures.{name}")
