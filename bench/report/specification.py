"""What a report shows: an experiment's tables and figures, parsed. Imports no torch.

They are described in conf/tables/<experiment>.yaml, which the composition of cells never reads. A YAML of your own in
conf/experiment may hold its `tables` (and `figures`) itself; an experiment that has both is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bench.config import grid, places
from bench.core.errors import BenchError, nearest
from bench.report import metrics, table_specs
from bench.report.figures import figure_specs
from bench.report.figures.figure_specs import AnyFigure
from bench.report.table_specs import AnyTable, TableSpec

PARTS = ("tables", "figures")


@dataclass(frozen=True)
class Specification:
    """Of one experiment, or of a grid of one's own, which has none of it."""

    name: str = "cell"
    tables: Mapping[str, AnyTable] = field(default_factory=dict)
    figures: Mapping[str, AnyFigure] = field(default_factory=dict)
    narrowed: bool = False  # the command line changes an axis of the grid: tables may lack rows and columns
    changed: bool = False  # the command line changes what is computed: the numbers are not the experiment's

    @property
    def whole(self) -> bool:
        """Are these the experiment's own numbers, to be written?"""
        return bool(self.tables) and not (self.narrowed or self.changed)


def read(typed: Sequence[str]) -> Specification:
    """Raises BenchError for a field that no table has, an unknown metric, a column that is not there: one line each."""
    name, parts = described(typed)
    return parsed(name, parts, grid.narrowed(typed), grid.changed(typed))


def parsed(name: str, parts: Mapping[str, Any], narrowed: bool = False, changed: bool = False) -> Specification:
    """From {tables, figures} as YAML has them."""
    tables = {str(each): table_specs.table(str(each), content) for each, content in _named(parts, "tables").items()}
    table_specs.check_without(tables)
    for each, table in tables.items():
        if isinstance(table, TableSpec):
            metrics.check(each, table)
    figures = {str(each): figure_specs.figure(str(each), content) for each, content in _named(parts, "figures").items()}
    return Specification(name, tables, figures, narrowed, changed)


def _named(parts: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    found = parts.get(part) or {}
    if not isinstance(found, Mapping):
        raise BenchError(f"{part} must be {{name: description}}, each of its own")
    return found


def described(typed: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """-> the experiment's name (`cell` without one) and {tables, figures}. Raises BenchError where both places describe them."""
    name = next((word.partition("=")[2] for word in typed if word.lstrip("+").startswith("experiment=")), "cell")
    config = grid.base(typed)
    inline = {part: config[part] for part in PARTS if config.get(part)}
    file = places.file("tables", name)
    if file is None:
        return name, inline
    if inline:
        raise BenchError(
            f"experiment {name} has `{next(iter(inline))}` of its own and conf/tables/{name}.yaml; keep one of them"
        )
    return name, _read(name, file)


def _read(name: str, file: Path) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise BenchError(f"can't read conf/tables/{name}.yaml: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, Mapping):
        raise BenchError(f"conf/tables/{name}.yaml must hold `tables` and may hold `figures`")
    for part in content:
        if part not in PARTS:
            raise BenchError(f"conf/tables/{name}.yaml: {part} is unknown{nearest(str(part), PARTS)}")
    return {str(part): value for part, value in content.items()}
