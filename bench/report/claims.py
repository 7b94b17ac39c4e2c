"""Which of the papers' printed numbers stand in a table, and which are left out and why. Imports no torch.

results/papers/claims.yaml names the experiments of the papers' scale, whose tables claim, and the numbers that no table can:

  experiments: [unig_cifar_paper, ...]
  left_out:
    - {csv: advtrans_tiny.csv, where: {dataset: TinyImageNet}, reason: "..."}     # names as in a table's `printed`

Every number is claimed by one entry or left out by one line (tests/report/test_claims.py). A row or column that is `repeats:
true` shows a printed number without claiming it. `python -m bench.report.claims` prints the count, and what is wrong.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from omegaconf import OmegaConf
from pydantic import Field

from bench.config.parse import Frozen, parse
from bench.core.errors import BenchError
from bench.report import specification
from bench.report.paper_numbers import FOLDER, Printed
from bench.report.table_specs import TableSpec, Where

FILE = "claims.yaml"


class LeftOut(Frozen):
    csv: str
    where: Where = Field(default_factory=dict)
    reason: Annotated[str, Field(min_length=10)]


class Claims(Frozen):
    experiments: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class Count:
    """Of one CSV. The lists are of what claims or leaves out each of its rows, by place."""

    csv: str
    rows: list[dict[str, str]]
    claimed: dict[int, list[str]] = field(default_factory=dict)
    left_out: dict[int, list[str]] = field(default_factory=dict)

    @property
    def troubles(self) -> list[str]:
        """A line each for a number that nothing, or that more than one thing, accounts for."""
        lines = []
        for place, row in enumerate(self.rows):
            by = [*self.claimed.get(place, []), *self.left_out.get(place, [])]
            if len(by) != 1:
                what = "in no table and not left out" if not by else f"accounted for {len(by)} times: {'; '.join(by)}"
                lines.append(f"{self.csv}, line {place + 2} ({_named(row)}): {what}")
        return lines


def count() -> list[Count]:
    """Of every CSV below results/papers. Raises BenchError where claims.yaml names what is not there, or a line leaves out
    nothing."""
    claims = read()
    found = {path.name: Count(path.name, Printed.of(path.name).rows) for path in sorted(FOLDER.glob("*.csv"))}
    for experiment in claims.experiments:
        for name, table in specification.read([f"+experiment={experiment}"]).tables.items():
            if not isinstance(table, TableSpec) or table.printed is None:
                continue
            printed = Printed.of(table.printed)
            for row, column in table.places():
                place = None if row.repeats or column.repeats else printed.place(table, row, column)
                if place is not None:
                    entry = f"{experiment}, {name}, row {row.name}, column {column.name}"
                    found[table.printed].claimed.setdefault(place, []).append(entry)
    for line in claims.left_out:
        if line.csv not in found:
            raise BenchError(f"{FILE}: no {line.csv} below results/papers; correct `csv`")
        places = Printed.of(line.csv).matching(line.where)
        if not places:
            raise BenchError(f"{FILE}: {dict(line.where)} leaves out nothing of {line.csv}; correct or remove the line")
        for place in places:
            found[line.csv].left_out.setdefault(place, []).append(f"left out: {line.reason}")
    return list(found.values())


def read() -> Claims:
    return parse(Claims, OmegaConf.to_container(OmegaConf.load(FOLDER / FILE)), FILE)


def lines(counts: Sequence[Count]) -> list[str]:
    """A line a CSV and a sum, then the troubles."""
    width = max(len(each.csv) for each in counts)
    table = [f"{'':{width}}  printed  claimed  left out"]
    table += [f"{e.csv:{width}}  {len(e.rows):7}  {len(e.claimed):7}  {len(e.left_out):8}" for e in counts]
    sums = [
        sum(len(part) for part in parts)
        for parts in zip(*((e.rows, e.claimed, e.left_out) for e in counts), strict=True)
    ]
    table.append(f"{'in all':{width}}  {sums[0]:7}  {sums[1]:7}  {sums[2]:8}")
    return table + [line for each in counts for line in each.troubles]


def _named(row: dict[str, str]) -> str:
    names = ("dataset", "model", "defense", "attack", "norm", "eps", "targeted", "query_budget", "metric")
    return ", ".join(row[name] for name in names if row.get(name))


if __name__ == "__main__":
    try:
        counted = count()
    except BenchError as error:
        sys.exit(f"error: {error}")
    print("\n".join(lines(counted)))
    sys.exit(1 if any(each.troubles for each in counted) else 0)
