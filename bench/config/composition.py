"""Words -> configs of cells. Hydra composes each choice of a YAML once, not each cell: one composition takes a tenth of a second.

A choice usually changes one node of the config (`attack=square` changes `attack`), so a cell is put together from the nodes of
several compositions; where a choice changes more than its own node, Hydra composes the cell's choices together. Values are then
set in plain containers, and only nodes with interpolations go through OmegaConf.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bench.config import interpolation, places, sentences
from bench.config.overrides import Word, node_of
from bench.core.errors import BenchError

Settings = dict[str, Any]
Words = tuple[Word, ...]
Made = tuple[Words, Words]  # what a node was made with: choices of YAMLs, then values
OF_EXPERIMENT = {"grid": None, "tables": None, "figures": None}  # a cell has no use for them


@dataclass(frozen=True)
class Composed:
    """Plain containers with their interpolations. Shared by cells, so never changed."""

    nodes: Mapping[str, Any]
    choices: Mapping[str, str]  # group -> the YAML chosen


def whole(words: Sequence[Word]) -> Settings:
    """All that Hydra composes, resolved, an experiment's grid with it. Raises BenchError."""
    composed = _compose(tuple(word for word in words if not word.sets), places.folders())
    nodes = dict(composed.nodes)
    for word in words:
        if word.sets:
            nodes = with_value(nodes, word)
    return interpolation.all_by_omegaconf(nodes)


def cells(words_of_cells: Sequence[Words]) -> Iterator[tuple[Settings, dict[str, str]]]:
    """For each cell its config, resolved, and the group choices; both share parts with other cells'. Raises BenchError."""
    by_added: dict[Words, list[Words]] = {}
    for words in words_of_cells:
        by_added.setdefault(_added(words), []).append(words)
    composers = {added: _Composer(added, several) for added, several in by_added.items()}
    with _hydra(places.folders()):
        for words in words_of_cells:
            yield composers[_added(words)].cell(words)


def check_known(settings: Settings) -> None:
    """Raises BenchError for a node that `+` added and that nothing reads."""
    known = _known()
    for name in settings.keys() - known.keys():
        raise BenchError(sentences.no_key(name, known))


@functools.cache
def _known() -> Mapping[str, Any]:
    """The nodes of bench.yaml."""
    return _compose((), (places.CONF,)).nodes


class _Composer:
    """Composes cells whose added words are the same."""

    def __init__(self, added: Words, words_of_cells: Sequence[Words]) -> None:
        self._added = added
        together = {_choices(words) for words in words_of_cells}
        apart = {part for choices in together for part in _by_node(choices).items()}
        self._apart = len(apart) + 1 < len(together)  # which of the two needs fewer compositions
        self._own: dict[tuple[str, Words], bool] = {}
        self._set: dict[tuple[str, Made], tuple[Any, str]] = {}
        self._resolved: dict[tuple[Any, ...], Any] = {}

    def cell(self, words: Words) -> tuple[Settings, dict[str, str]]:
        choices, values = _choices(words), _by_node(word for word in words if word.sets)
        by_node = _by_node(choices)
        if self._apart and all(self._changes_its_node_alone(node, part) for node, part in by_node.items()):
            composed = self._compose(())
            chosen = {name: choice for name, choice in composed.choices.items() if node_of(name) not in by_node}
            for node, part in by_node.items():
                chosen |= {
                    name: choice for name, choice in self._compose(part).choices.items() if node_of(name) == node
                }
        else:
            composed = self._compose(choices)
            by_node, chosen = dict.fromkeys(composed.nodes, choices), dict(composed.choices)
        for node in values.keys() - composed.nodes.keys():  # raises: there is no such node
            with_value(composed.nodes, values[node][0])
        made = {name: (by_node.get(name, ()), values.get(name, ())) for name in composed.nodes}
        return {name: self._node(name, made) for name in made} | OF_EXPERIMENT, chosen

    def _compose(self, choices: Words) -> Composed:
        return _compose(self._added + choices, places.folders())

    def _changes_its_node_alone(self, node: str, part: Words) -> bool:
        if (node, part) not in self._own:
            before, after = self._compose(()), self._compose(part)
            self._own[node, part] = _without(before, node) == _without(after, node)
        return self._own[node, part]

    def _node(self, name: str, made: Mapping[str, Made]) -> Any:
        """Resolved. Cells for which it, and all that it refers to, was made alike share it."""
        node, text = self._with_values(name, made)
        if not text:
            return node
        referred = self._referred(text, made)
        key = (name, made[name], *self._how(referred, made))
        if key not in self._resolved:
            nodes = {name: node} | {each: self._with_values(each, made)[0] for each in referred}
            if interpolation.RELATIVE in text:
                self._resolved[key] = interpolation.all_by_omegaconf(nodes)[name]
            else:
                self._resolved[key] = interpolation.resolve(node, nodes, lambda text: self._computed(text, made))
        return self._resolved[key]

    def _computed(self, text: str, made: Mapping[str, Made]) -> Any:
        """`${another:${seed}}`."""
        referred = self._referred(text, made)
        key = (text, *self._how(referred, made))
        if key not in self._resolved:
            nodes = {each: self._with_values(each, made)[0] for each in referred}
            self._resolved[key] = interpolation.by_omegaconf(text, nodes)
        return self._resolved[key]

    def _with_values(self, name: str, made: Mapping[str, Made]) -> tuple[Any, str]:
        """The node with its values set, and all its interpolations."""
        key = (name, made[name])
        if key not in self._set:
            choices, values = made[name]
            nodes = self._compose(choices).nodes
            for word in values:
                nodes = with_value(nodes, word)
            self._set[key] = nodes[name], " ".join(interpolation.texts(nodes[name]))
        return self._set[key]

    def _referred(self, text: str, made: Mapping[str, Made]) -> list[str]:
        """The nodes that the text refers to, and those that they refer to in turn."""
        found = [name for name in interpolation.words(text) if name in made]
        for each in found:  # grows while it is walked
            found += [o for o in interpolation.words(self._with_values(each, made)[1]) if o in made and o not in found]
        return found

    def _how(self, names: Sequence[str], made: Mapping[str, Made]) -> Iterator[tuple[str, Made]]:
        return ((name, made[name]) for name in names)


@functools.lru_cache(maxsize=512)
def _compose(words: Words, folders: tuple[Path, ...]) -> Composed:
    try:
        with _hydra(folders):
            config = hydra.compose("bench", [word.text for word in words], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, YAMLError, RecursionError, ValueError) as error:
        raise BenchError(sentences.of_hydra(error)) from None  # ValueError: a group of null, a YAML that is no text
    choices = {str(name): str(value) for name, value in config.hydra.runtime.choices.items()}
    nodes = OmegaConf.to_container(OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"]))
    assert isinstance(nodes, dict)
    return Composed({str(name): node for name, node in nodes.items()}, choices)


@contextmanager
def _hydra(folders: tuple[Path, ...]) -> Iterator[None]:
    """Hydra, set up where it isn't yet, that reads each YAML once as long as this lasts: reading is most of a composition."""
    instance = GlobalHydra.instance()
    if instance.is_initialized():
        loader = instance.config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        before = loader.repository
        if not isinstance(before, _ReadOnce):
            loader.repository = cast(ConfigRepository, _ReadOnce(before))
        try:
            yield
        finally:
            loader.repository = before
    else:
        places.register()  # adds the folders before the last to what Hydra searches
        with hydra.initialize_config_dir(str(folders[-1]), version_base="1.3"), _hydra(folders):
            yield


class _ReadOnce(CachingConfigRepository):
    def __init__(self, delegate: IConfigRepository) -> None:
        self.delegate, self.cache = delegate, dict[str, ConfigResult | None]()

    def __deepcopy__(self, _: Any) -> Self:  # Hydra copies its repository at each composition
        return self


def with_value(nodes: Mapping[str, Any], word: Word) -> Settings:
    """A copy with the word's value, as Hydra sets it: a mapping is merged into one that is there. Raises BenchError where `nodes`
    has no such key."""
    return _put(nodes, word, nodes, "")


def _put(node: Any, word: Word, nodes: Mapping[str, Any], place: str) -> Any:
    """place: where `node` lies in `nodes`."""
    rest = word.axis[len(place) + 1 :] if place else word.axis
    if not rest:
        return _merged(node, word.value, place, nodes)
    name = rest.partition(".")[0]
    where = f"{place}.{name}" if place else name
    if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
        return [_put(each, word, nodes, where) if i == int(name) else each for i, each in enumerate(node)]
    key = next((each for each in node if str(each) == name), None) if isinstance(node, Mapping) else None
    if key is None:
        raise BenchError(sentences.no_key(word.axis, nodes))
    assert isinstance(node, Mapping)
    return {**node, key: _put(node[key], word, nodes, where)}


def _merged(old: Any, new: Any, place: str, nodes: Mapping[str, Any]) -> Any:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    for name in new.keys() - old.keys():
        raise BenchError(sentences.no_key(f"{place}.{name}", nodes))
    return {**old, **{name: _merged(old[name], value, f"{place}.{name}", nodes) for name, value in new.items()}}


def _added(words: Words) -> Words:
    """What only Hydra can apply: `+experiment=…`, `~attack.early_stop`."""
    return tuple(word for word in words if not word.chooses and not word.sets)


def _choices(words: Words) -> Words:
    return tuple(word for word in words if word.chooses)


def _by_node(words: Iterable[Word]) -> dict[str, Words]:
    found: dict[str, Words] = {}
    for word in words:
        found[word.node] = (*found.get(word.node, ()), word)
    return found


def _without(composed: Composed, node: str) -> tuple[Settings, dict[str, str]]:
    nodes = {name: content for name, content in composed.nodes.items() if name != node}
    return nodes, {name: choice for name, choice in composed.choices.items() if node_of(name) != node}
