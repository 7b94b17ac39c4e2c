"""A table for a grid that brings none: a row a cell, distinguished by the groups and the axes in which cells differ."""

from collections.abc import Sequence

from bench.config.grid import GridCell
from bench.report.table_specs import Column, Row, TableSpec

GROUPS = ("dataset", "model", "recipe", "defense", "attack", "threat")
OF_ATTACKS = ("robust_acc", "re_evaluation_success", "mean_queries_success", "median_queries_success")


def plain_table(cells: Sequence[GridCell]) -> TableSpec:
    """Clean accuracy and, where a cell has an attack, what it leaves."""
    axes = sorted({o.partition("=")[0].lstrip("+") for cell in cells for o in cell.overrides} - {"experiment"})
    names = dict.fromkeys([*GROUPS, *axes])
    shown = [name for name in names if len({str(cell.value(name)) for cell in cells}) > 1] or ["defense", "attack"]
    rows = []
    for cell in {cell.key: cell for cell in cells}.values():
        where = {name: str(cell.value(name)) for name in dict.fromkeys([*shown, "defense", "attack"])}
        rows.append(Row(name=", ".join(f"{name}={where[name]}" for name in shown), where=where))
    metrics = ("clean_acc", *(OF_ATTACKS if any(cell.key != cell.clean_key for cell in cells) else ()))
    columns = [Column(name=metric.replace("_", " "), metric=metric) for metric in metrics]
    return TableSpec(title="One row a cell", rows=tuple(rows), columns=tuple(columns))
