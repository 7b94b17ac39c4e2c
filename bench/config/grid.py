"""Grid lines + what the user typed -> cells. The one expansion, shared by runner and reporter. Imports no torch.

A line is a product of axes; the lines are joined. What the user types picks lines, replaces an axis, or multiplies them all:
`defense=rnd,unig seed=0,1`.
"""

import functools
import itertools
import pickle
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from bench.config import resolvers
from bench.config.runtime import RuntimeSpec
from bench.config.specs import CellSpec
from bench.core.errors import BenchError, nearest

resolvers.register()
# the seed of an attacker's own network: never the victim's, whose initial weights it would share
OmegaConf.register_new_resolver("another", lambda seed: seed + 1, replace=True)
CONF = Path(__file__).resolve().parents[2] / "conf"
PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
WORDS = {"null", "true", "false", "on", "off", "yes", "no", "nan", "inf"}  # Hydra or YAML read these as something else


@dataclass(frozen=True)
class GridCell:
    overrides: tuple[str, ...]  # what Hydra composes it from
    config: dict[str, Any]  # composed and resolved
    choices: dict[str, str]  # group -> the YAML chosen
    spec: CellSpec
    runtime: RuntimeSpec
    key: str
    clean_key: str

    def matches(self, where: Mapping[str, Any]) -> bool:
        """`where`: {group: choice} or {dotted.key: value}."""
        return all(str(self.value(name)) == str(value) for name, value in where.items())

    def value(self, name: str) -> Any:
        """A group's choice, or what a dotted key holds; None where there is no such key."""
        return self.choices.get(name, _select(self.config, name))

    @property
    def command(self) -> str:
        return shlex.join(["python", "-m", "bench", *self.overrides])


def base(typed: Sequence[str]) -> DictConfig:
    """What the typed overrides compose to, each sweep at its first value: holds the experiment's grid and tables."""
    whole, _ = _compose([first[0] for first in map(_values, _parse(typed))], experiment=True)
    return OmegaConf.create(whole)


def cells(typed: Sequence[str]) -> list[GridCell]:
    """Every cell of the grid, composed; cells with the same key but other names all remain, for tables to find."""
    shared = base(typed)
    lines = OmegaConf.to_container(shared.grid, resolve=False) if shared.get("grid") else [{}]
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise BenchError("grid must be a list of lines, each {axis: value or list of values}")
    found: dict[tuple[str, ...], GridCell] = {}
    for overrides in _expand(lines, _parse(typed)):
        config, choices = _compose(overrides)
        spec, runtime = CellSpec.parse(config), RuntimeSpec.parse(config)
        found[tuple(overrides)] = GridCell(tuple(overrides), config, choices, spec, runtime, spec.key, spec.clean_key)
    return list(found.values())


def _expand(lines: list[dict[Any, Any]], typed: list[Override]) -> Iterator[list[str]]:
    variants = [{str(name): _axis(str(name), value) for name, value in line.items()} for line in lines]
    for override in typed:
        name = _name(override)
        known = {value for axes in variants for value in axes.get(name, [])}
        variants = [
            chosen
            for axes in variants
            for value in _values(override)
            if (chosen := _chosen(axes, name, value, value in known)) is not None
        ]
    for axes in variants:
        yield from map(list, itertools.product(*axes.values()))


def _chosen(axes: dict[str, list[str]], name: str, value: str, known: bool) -> dict[str, list[str]] | None:
    """The line with a typed value for one axis. A value that some line lists picks those lines; any other replaces the axis in
    every line, and then the line's refinements of it (`defense.group.size` beside `defense: unig`) no longer apply."""
    if name in axes and value not in axes[name] and known:
        return None
    foreign = name in axes and value not in axes[name]
    refined = f"{name}."  # also as the place of a group: `attack@attack.craft`
    return {
        other: values
        for other, values in axes.items()
        if not (foreign and (other.startswith(refined) or other.partition("@")[2].startswith(refined)))
    } | {name: [value]}


def _name(override: Override) -> str:
    """The axis: `attack`, `attack.eps`, or a group at another place, `attack@attack.craft`."""
    return f"{override.key_or_group}@{override.package}" if override.package else str(override.key_or_group)


# what may be typed beside an experiment without making it another one
KNOBS = {
    "experiment", "store", "artifacts", "device", "threads", "slots", "shard", "keep_images", "place", "dataset.root",
    "model.build.root",
}  # fmt: skip


def changed(typed: Sequence[str]) -> bool:
    """Does the command line change what is computed? Then its numbers are not the experiment's."""
    names = {_name(override) for override in _parse(typed)}
    return any(name not in KNOBS and not name.startswith("hydra") for name in names)


def narrowed(typed: Sequence[str]) -> bool:
    """Does the command line change an axis of the experiment's grid? Then its tables may lack rows and columns."""
    grid = base(typed).get("grid") or []
    return bool({_name(override) for override in _parse(typed)} & {str(name) for line in grid for name in line})


def _axis(name: str, value: Any) -> list[str]:
    return [f"{name}={quoted(v)}" for v in (value if isinstance(value, list) else [value])]


def quoted(value: Any) -> str:
    """A YAML value as Hydra's override grammar reads it back."""
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(quoted, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{quoted(v)}" for name, v in value.items()) + "}"
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in WORDS:
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _parse(typed: Sequence[str]) -> list[Override]:
    return [override for word in typed for override in _parse_word(word)]


@functools.lru_cache(maxsize=4096)
def _parse_word(word: str) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides([word])
    except HydraException as error:
        raise BenchError(
            f"can't read '{word}' ({_sentence(error)}); write key=value, quoted where it has signs"
        ) from None


def _values(override: Override) -> list[str]:
    """One override a value, with its + or ~ kept."""
    if not override.is_sweep_override():
        return [override.input_line or ""]
    head = (override.input_line or "").partition("=")[0]
    return [f"{head}={value}" for value in override.sweep_string_iterator()]


def _compose(overrides: Sequence[str], experiment: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """The job's config, resolved, and the group choices. Raises BenchError with the nearest right name.

    Values of dotted keys are put in here, as Hydra does it: cells that differ in them alone share one composition, which takes
    Hydra some tenths of a second. experiment: with its grid, tables and figures, which a cell has no use for.
    """
    parsed = _parse(overrides)
    plain = [override for override in parsed if _is_plain(override)]
    try:
        shared, choices = _composed(tuple(o.input_line or "" for o in parsed if o not in plain), CONF, experiment)
        whole = pickle.loads(shared)  # thrice as fast as a deep copy
        for override in plain:
            OmegaConf.update(whole, override.key_or_group, override.value(), merge=True)
        settled = OmegaConf.to_container(whole, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise BenchError(_sentence(error)) from None
    assert isinstance(settled, dict)
    return {str(name): value for name, value in settled.items()}, dict(choices)


def _is_plain(override: Override) -> bool:
    """`threat.queries=100`: neither a group nor +, ~ or a sweep."""
    name = str(override.key_or_group)
    changes = override.type == OverrideType.CHANGE and not override.is_sweep_override() and override.package is None
    return changes and "." in name and "/" not in name and not name.startswith("hydra.")


@functools.lru_cache(maxsize=256)
def _composed(overrides: tuple[str, ...], folder: Path, experiment: bool) -> tuple[bytes, dict[str, str]]:
    """Unresolved, with Hydra's own node taken off, pickled."""
    if not experiment:
        overrides = tuple(map(_slim, overrides))
    if GlobalHydra.instance().is_initialized():
        whole = hydra.compose("bench", list(overrides), return_hydra_config=True)
    else:
        with hydra.initialize_config_dir(str(folder), version_base="1.3"):
            whole = hydra.compose("bench", list(overrides), return_hydra_config=True)
    choices = {str(name).removeprefix(SLIM): str(value) for name, value in whole.hydra.runtime.choices.items()}
    with open_dict(whole):
        del whole["hydra"]
        if not experiment:
            whole.grid = whole.tables = whole.figures = None
    return pickle.dumps(whole), choices


SLIM = "slim_"


def _slim(override: str) -> str:
    """`+experiment=x` as `+slim_experiment=x`: the same YAML without grid, tables and figures. Hydra reads and copies the whole
    file at every composition, and most of a large experiment are its tables."""
    found = re.fullmatch(r"\+experiment=([\w.-]+)", override)
    file = CONF / "experiment" / f"{found[1]}.yaml" if found else CONF
    if not found or not file.is_file():
        return override  # an unknown name is Hydra's to report
    node = _slimmed(file, file.stat().st_mtime_ns)
    ConfigStore.instance().store(found[1], node, group=f"{SLIM}experiment", package="_global_")
    return f"+{SLIM}experiment={found[1]}"


@functools.lru_cache(maxsize=64)
def _slimmed(file: Path, _changed: int) -> DictConfig:
    node = OmegaConf.load(file)
    assert isinstance(node, DictConfig)
    for name in ("grid", "tables", "figures"):
        node.pop(name, None)
    return node


def _sentence(error: Exception) -> str:
    """Hydra's many lines as one, with the nearest right name."""
    text = str(error)
    if found := re.search(r"Could not find '(?:(?P<group>[\w/]+)/)?(?P<name>[\w.-]+)'", text):
        group = found["group"] or ""
        known = [path.stem for path in (CONF / group).glob("*.yaml")]
        return f"{group or 'config'}={found['name']} is unknown{nearest(found['name'], known)}"
    if found := re.search(r"[Kk]ey '(?P<name>[\w.-]+)' is not in struct(?:\s+full_key: (?P<full>[\w.\[\]-]+))?", text):
        full = found["full"] or found["name"]
        return f"the config has no key '{full}'{nearest(full, _known_keys(full))}"
    if "override 'experiment'" in text:
        return "an experiment is added, not overridden: write +experiment=<name>"
    if found := re.search(r"Could not override '(?P<name>[\w./@-]+)'", text):
        return f"the config has no key '{found['name']}'{nearest(found['name'], _known_keys(found['name']))}"
    return " ".join(text.split())[:300]


def _known_keys(full: str) -> list[str]:
    """All dotted keys of the default cell, or of the YAMLs of the group that the key begins with."""
    group = full.partition(".")[0]
    names: set[str] = set()
    for path in [CONF / "bench.yaml", *(CONF / group).glob("*.yaml")]:
        prefix = "" if path.parent == CONF else f"{group}."
        names |= {prefix + name for name in _dotted(OmegaConf.to_container(OmegaConf.load(path), resolve=False))}
    return sorted(names | {path.name for path in CONF.iterdir() if path.is_dir()})


def _dotted(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield str(name)
            yield from (f"{name}.{rest}" for rest in _dotted(value))


def _select(config: Mapping[str, Any], name: str) -> Any:
    node: Any = config
    for part in name.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node
