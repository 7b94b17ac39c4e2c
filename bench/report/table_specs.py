"""What a table's YAML may say: its rows and columns, typed. Imports no torch.

tables:
  table1:
    title: ...
    printed: unig_table1.csv                    # below results/papers; optional
    select: {dataset: CIFAR10}                  # its rows that belong to this table
    reference: {defense: none}                  # logit_diff's undefended net
    rows:    [{name: UniG, where: {defense: unig}, printed: {defense: UniG}, without: [columns that it has not]}, ...]
    columns:
      - {name: Square-100, metric: robust_acc, where: {attack: square, threat.queries: 100}, printed: {...}, at: 100}
      - {name: worst case, metric: per_image_worst, of: [Square-100, RayS]}          # over cells of the row, image by image
      - {name: "against noise", metric: mcnemar, where: {...}, against: {defense: unig_noise}}
      - {name: flags, metric: flags, of: {white_box: [PGD], black_box: [Square]}}            # bench.report.masking_flags
  matrix: {kind: matrix, title: ..., where: {recipe: adp}}      # a model set's transfer, source x target: transfer_matrix.py

`where` is {group: choice} or {dotted.key: value}, the row's and the column's together; bench.report.metrics lists metrics.
`at` reads a smaller budget out of a run whose attack is anytime. A column's or row's `ambiguity` is named below the table where
the paper's number lies outside our interval.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, StrictInt, Tag

from bench.config.parse import Frozen, parse
from bench.core.errors import BenchError, nearest


def _text(value: Any) -> Any:
    """A name that YAML read as a number: `name: 10`."""
    return f"{value}" if isinstance(value, int | float) and not isinstance(value, bool) else value


Name = Annotated[str, BeforeValidator(_text)]
Names = tuple[Name, ...]
Where = dict[str, Any]


class FlagGroups(Frozen):
    """The columns that show signs of masked gradients, by what they are (bench.report.masking_flags)."""

    white_box: Names = ()
    adaptive: Names = ()  # white-box columns that go around the defence (BPDA, EOT)
    black_box: Names = ()
    transfer: Names = ()
    weaker_first: tuple[Names, ...] = ()
    huge_eps: Names = ()
    restarts: Names = ()  # one restart, many
    steps: Names = ()  # few steps, many

    def columns(self) -> tuple[str, ...]:
        """Every column named, the white-box ones first."""
        chains = [name for chain in self.weaker_first for name in chain]
        return (
            *self.white_box, *self.adaptive, *self.black_box, *self.transfer, *chains, *self.huge_eps, *self.restarts,
            *self.steps,
        )  # fmt: skip

    def without(self, names: frozenset[str]) -> "FlagGroups":
        """The groups less some columns."""

        def kept(group: Names) -> Names:
            return tuple(name for name in group if name not in names)

        return FlagGroups(
            white_box=kept(self.white_box),
            adaptive=kept(self.adaptive),
            black_box=kept(self.black_box),
            transfer=kept(self.transfer),
            weaker_first=tuple(kept(chain) for chain in self.weaker_first),
            huge_eps=kept(self.huge_eps),
            restarts=kept(self.restarts),
            steps=kept(self.steps),
        )


def _kind_of(content: Any) -> str:
    return "groups" if isinstance(content, Mapping | FlagGroups) else "names"


Of = Annotated[Annotated[Names, Tag("names")] | Annotated[FlagGroups, Tag("groups")], Discriminator(_kind_of)]


class Row(Frozen):
    name: Name
    where: Where = Field(default_factory=dict)
    printed: Where | None = None
    without: frozenset[Name] = frozenset()
    repeats: bool = False  # its printed numbers stand beside ours, but another row claims them (bench.report.claims)
    ambiguity: str = ""


class Column(Frozen):
    name: Name
    metric: str
    where: Where = Field(default_factory=dict)
    printed: Where | None = None
    at: StrictInt | None = Field(default=None, ge=1)  # queries
    of: Of | None = None  # the columns that the metric combines
    against: Where | None = None  # mcnemar's other victim: changes to the row's `where`
    repeats: bool = False  # as a row's
    ambiguity: str = ""


class Panels(Frozen):
    """What bench.report.metrics.panels counts over: a panel is one setting under one attack, a point in it one candidate of a
    method.

    panels:
      methods: {AT-PGD: [{recipe: at_pgd}], FGR: [{recipe: fgr, recipe.loss.lam: 0.367}, ...], ...}   # candidates, by lambda
      settings: {MNIST: [{dataset: mnist, model: vgg11_mnist}, ...], ...}       # named groups of networks and data
      attacks: {single-step: {attack: flow_fgsm}, ...}
      nearest_to: AT-PGD      # of a method's candidates, the one whose clean accuracy is nearest this method's plays
      same_lambda: [FGR, FGR+RS]       # methods whose n-th candidates belong together
    """

    methods: dict[Name, tuple[Where, ...]]
    settings: dict[Name, tuple[Where, ...]]
    attacks: dict[Name, Where]
    nearest_to: Name
    same_lambda: Names = ()


class TableSpec(Frozen):
    title: str = ""
    printed: str | None = None
    select: Where = Field(default_factory=dict)
    reference: Where = Field(default_factory=lambda: {"defense": "none"})
    notes: tuple[str, ...] = ()
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    panels: Panels | None = None  # of metrics that count over many cells
    source: str | None = None  # the key of a set's source, where it is not the usual one

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def places(self) -> Iterator[tuple[Row, Column]]:
        """Every entry that the table shall have."""
        for row in self.rows:
            yield from ((row, column) for column in self.columns if column.name not in row.without)


class MatrixSpec(Frozen):
    """A set's transfer matrix; rows and columns come from the set."""

    kind: Literal["matrix"]
    title: str = ""
    notes: tuple[str, ...] = ()
    where: Where = Field(default_factory=dict)
    source: str | None = None


AnyTable = TableSpec | MatrixSpec


def table(name: str, content: Any) -> AnyTable:
    """The YAML node tables.<name>. Raises BenchError with the nearest right name; metrics are checked by their own registry."""
    label = f"tables.{name}"
    if not isinstance(content, Mapping) or "kind" not in content:
        return parse(TableSpec, content, label)
    if content["kind"] != "matrix":
        raise BenchError(f"{label}.kind={content['kind']} is unknown; it is matrix, or left out")
    if "rows" in content or "columns" in content:
        raise BenchError(f"{label}: a matrix has its rows and columns from the set; remove them, or `kind`")
    return parse(MatrixSpec, content, label)


def check_without(tables: Mapping[str, AnyTable]) -> None:
    """A row is `without` columns of its own table or, where two tables share their rows, of another one."""
    plain = {name: each for name, each in tables.items() if isinstance(each, TableSpec)}
    known = {column.name for each in plain.values() for column in each.columns}
    for name, each in plain.items():
        for row in each.rows:
            for column in sorted(row.without - known):
                raise BenchError(
                    f"tables.{name}: row {row.name} is `without` {column}, no column{nearest(column, known)}"
                )
