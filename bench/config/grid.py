"""Grid lines + what the user typed -> cells. The one expansion, shared by runner and reporter. Imports no torch.

A line is a product of axes; the lines are joined. What the user types picks lines, replaces an axis, or multiplies them all:
`defense=rnd,unig seed=0,1`.
"""

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from bench.config import composition, rehearsal, resolvers
from bench.config.overrides import Word, of_yaml, typed_words
from bench.config.places import CONF as CONF
from bench.config.runtime import RuntimeSpec
from bench.config.specs import CellSpec
from bench.core.errors import BenchError

resolvers.register()
# the seed of an attacker's own network: never the victim's, whose initial weights it would share
OmegaConf.register_new_resolver("another", lambda seed: seed + 1, replace=True)
Line = dict[str, list[Word]]  # axis -> its values

# what may be typed beside an experiment without making it another one
KNOBS = {
    "experiment", "store", "artifacts", "device", "threads", "slots", "look_every", "run_ahead", "cuda_graph", "shard",
    "keep_images", "place", "rehearse", "dataset.root", "model.build.root",
}  # fmt: skip


@dataclass(frozen=True)
class GridCell:
    overrides: tuple[str, ...]  # what Hydra composes it from
    config: dict[str, Any]  # composed and resolved; cells share parts of it, so it is never changed
    choices: dict[str, str]  # group -> the YAML chosen
    spec: CellSpec
    runtime: RuntimeSpec
    key: str
    clean_key: str

    def matches(self, where: Mapping[str, Any]) -> bool:
        """`where`: {group: choice} or {dotted.key: value}."""
        return all(str(self.value(name)) == str(value) for name, value in where.items())

    def value(self, name: str) -> Any:
        """A group's choice, or what a dotted key says; None where there is no such key."""
        return self.choices.get(name, _select(self.config, name))

    @property
    def command(self) -> str:
        return shlex.join(["python", "-m", "bench", *self.overrides])


def base(typed: Sequence[str]) -> dict[str, Any]:
    """What the typed overrides compose to, each sweep at its first value: holds the experiment's grid. Raises BenchError."""
    words = typed_words(typed)
    experiments = [word.value for values in words for word in values if word.axis == "experiment"]
    if len(experiments) > 1:
        raise BenchError(
            f"one experiment at a time, not {', '.join(map(str, experiments))}: each has a grid of its own"
        )
    settings = composition.whole([values[0] for values in words])
    composition.check_known(settings)
    return settings


def cells(typed: Sequence[str]) -> list[GridCell]:
    """Every cell of the grid, composed; cells with the same key but other names all remain, for tables to find."""
    words_of_cells = list(dict.fromkeys(_expand(_lines(base(typed)), typed_words(typed))))
    found = []
    for words, (config, choices) in zip(words_of_cells, composition.cells(words_of_cells), strict=True):
        run = rehearsal.toy(config)  # the config itself where it is no rehearsal
        spec, runtime = CellSpec.parse(run), RuntimeSpec.parse(run)
        typed_as = tuple(word.text for word in words)
        found.append(GridCell(typed_as, config, choices, spec, runtime, spec.key, spec.clean_key))
    return found


def changed(typed: Sequence[str]) -> bool:
    """Does the command line change what is computed? Then its numbers are not the experiment's."""
    axes = {values[0].axis for values in typed_words(typed)}
    return any(axis not in KNOBS and not axis.startswith("hydra") for axis in axes)


def narrowed(typed: Sequence[str]) -> bool:
    """Does the command line change an axis of the experiment's grid? Then its tables may lack rows and columns."""
    axes = {values[0].axis for values in typed_words(typed)}
    return any(axes & line.keys() for line in _lines(base(typed)))


def _lines(config: Mapping[str, Any]) -> list[Line]:
    lines = config["grid"] or [{}]
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise BenchError("grid must be a list of lines, each {axis: value or list of values}")
    return [{str(axis): of_yaml(str(axis), value) for axis, value in line.items()} for line in lines]


def _expand(lines: Sequence[Line], typed: Sequence[Sequence[Word]]) -> Iterator[tuple[Word, ...]]:
    """The words of every cell: the typed ones change the lines one after another, then each line is multiplied out."""
    for words in typed:
        listed = {repr(word.value) for line in lines for word in line.get(words[0].axis, [])}
        lines = [
            changed
            for line in lines
            for word in words
            if (changed := _with_typed(line, word, picks=repr(word.value) in listed)) is not None
        ]
    for line in lines:
        yield from itertools.product(*line.values())


def _with_typed(line: Line, word: Word, picks: bool) -> Line | None:
    """The line with a typed value for one axis; None: not among the cells.

    picks: some line lists that value, so the word picks the lines which do (and those without the axis). Any other value replaces
    the axis in every line, and then the line's refinements of it (`defense.group.size` beside `defense: unig`) no longer apply.
    """
    if word.axis not in line:
        return line | {word.axis: [word]}
    if picks:
        same = [each for each in line[word.axis] if each.same_value(word)]
        return line | {word.axis: same[:1]} if same else None
    return {axis: values for axis, values in line.items() if not _refines(axis, word.axis)} | {word.axis: [word]}


def _refines(axis: str, group: str) -> bool:
    """`defense.group.size` and `attack/oracle` refine `defense` and `attack`; so does a group there: `attack@attack.craft`."""
    name, _, package = axis.partition("@")
    return (package or name).startswith((f"{group}.", f"{group}/"))


def _select(config: Mapping[str, Any], name: str) -> Any:
    node: Any = config
    for part in name.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node
