"""Reports of specifications that tests write down as YAML has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.config.grid import GridCell
from bench.report import reporter, seeds, specification
from bench.report.figures import draw, figure_specs
from bench.report.records import Records
from bench.report.select import CellIndex
from bench.report.table import Table


def built(content: Any, cells: Sequence[GridCell], narrowed: bool = False) -> Table:
    """The table `t`."""
    (spec,) = specification.parsed("mine", {"tables": {"t": content}}).tables.values()
    return seeds.build_over("t", spec, seeds.BySeed(CellIndex(cells)), Records(), narrowed)


def shown(
    cells: Sequence[GridCell],
    tables: Mapping[str, Any],
    figures: Mapping[str, Any] | None = None,
    changed: bool = False,
) -> bool:
    """The report of an experiment `mine`."""
    parts = {"tables": tables, "figures": figures}
    return reporter.show(cells, specification.parsed("mine", parts, changed=changed))


def drawn(content: Any, tables: Mapping[str, Table], folder: Path, stem: Path, records: Any = None) -> list[Path]:
    """The figure `f`."""
    return draw.draw("f", figure_specs.figure("f", content), tables, folder, records or Records(), stem)
