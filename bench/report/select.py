"""Which cell of the grid a table's `where` means. Imports no torch.

The cells are indexed by (name, value) once a report, so that a look-up costs as much as the cells it finds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.config.grid import GridCell
from bench.core.errors import BenchError


class CellIndex:
    """The cells of a grid, in its order."""

    def __init__(self, cells: Sequence[GridCell]) -> None:
        self.cells = list(cells)
        self._places: dict[str, dict[str, frozenset[int]]] = {}  # name -> value -> places in `cells`
        self._found: dict[tuple[tuple[str, str], ...], list[GridCell]] = {}

    def matching(self, where: Mapping[str, Any]) -> list[GridCell]:
        """`where`: {group: choice} or {dotted.key: value}, as GridCell.value reads them."""
        wanted = tuple(sorted((name, str(value)) for name, value in where.items()))
        if wanted not in self._found:
            places = sorted((self._at(name).get(value, frozenset()) for name, value in wanted), key=len)
            common = sorted(frozenset.intersection(*places)) if places else range(len(self.cells))
            self._found[wanted] = [self.cells[place] for place in common]
        return self._found[wanted]

    def _at(self, name: str) -> dict[str, frozenset[int]]:
        if name not in self._places:
            found: dict[str, list[int]] = {}
            for place, cell in enumerate(self.cells):
                found.setdefault(str(cell.value(name)), []).append(place)
            self._places[name] = {value: frozenset(places) for value, places in found.items()}
        return self._places[name]

    def only(self, where: Mapping[str, Any], label: str, clean: bool) -> GridCell:
        """The one cell, or the one clean pass. Raises BenchError with the candidates where there is none or are several."""
        found = self.matching(where)
        different = {cell.clean_key if clean else cell.key for cell in found}
        if len(different) == 1:  # n is no part of a key: of cells that differ in it alone, the largest
            return max(found, key=lambda cell: samples(cell) or float("inf"))
        what = "matches no cell" if not found else f"matches {len(different)} cells"
        seen = ({name: cell.value(name) for name in where} for cell in (found or self.cells))
        candidates = list({str(each): each for each in seen}.values())[:6]
        raise BenchError(
            f"{label}: {dict(where)} {what} of the grid; candidates: {candidates}; make `where` or the grid more exact"
        )


def samples(cell: GridCell) -> int | None:
    """How many of its order's first samples the cell is of; None = all."""
    return cell.spec.samples.n
