"""What Hydra and OmegaConf say in many lines, in one, with the nearest right name."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from bench.config import places
from bench.core.errors import nearest


def of_hydra(error: Exception) -> str:
    text = str(error)
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{_below_conf(mark.name)}, line {mark.line + 1}, is no YAML: {' '.join(str(error.problem).split())}"
    if isinstance(error, UnicodeDecodeError):
        return f"{_not_text() or 'a YAML'} is no UTF-8 text; save it as UTF-8"
    if isinstance(error, RecursionError):
        return "defaults that name each other in a circle, or a ${reference} to what holds it; look for it in your own YAMLs"
    if isinstance(error, GrammarParseError) or not text.strip():
        return f"an interpolation can't be read ({' '.join(text.split())[:200] or 'is a brace missing?'}); write ${{node.key}}"
    if found := re.search(r"In '(?P<at>[\w/]+)': Could not load '(?P<group>[\w/]+)/(?P<name>[\w.-]+)'", text):
        known = nearest(found["name"], places.choices(found["group"]))
        return f"{found['at']}.yaml: its defaults name {found['group']}/{found['name']}, which is unknown{known}"
    if found := re.search(r"Interpolation key '(?P<name>[\w.]+)' not found\s+full_key: (?P<at>[\w.\[\]-]+)", text):
        return f"{found['at']} refers to ${{{found['name']}}}, which the config doesn't have"
    if found := re.search(r"Could not find '(?:(?P<group>[\w/]+)/)?(?P<name>[\w.-]+)'", text):
        group = found["group"] or ""
        return f"{group or 'config'}={found['name']} is unknown{nearest(found['name'], places.choices(group))}"
    if "override 'experiment'" in text:
        return "an experiment is added, not overridden: write +experiment=<name>"
    if found := re.search(r"[Kk]ey '(?P<name>[\w.-]+)' is not in struct(?:\s+full_key: (?P<full>[\w.\[\]-]+))?", text):
        return no_key(found["full"] or found["name"], {})
    if found := re.search(r"Missing mandatory value: (?P<name>[\w.]+)", text):
        return f"{found['name']} is not set; write {found['name']}=…"
    if found := re.search(r"Could not override '(?P<name>[\w./@-]+)'", text):
        return no_key(found["name"], {})
    return " ".join(text.split())[:300]


def no_key(full: str, nodes: Mapping[str, Any]) -> str:
    """Of the config `nodes` (where that is known), which lacks the dotted key that somebody set."""
    group = full.partition(".")[0]
    if full == "experiment":
        return "an experiment is added, not overridden: write +experiment=<name>"
    having = [name for name in places.choices(group) if full in _keys_of_yaml(group, name)]
    if having:
        several = ", ".join(having[:4]) + (", …" if len(having) > 4 else "")
        return f"this {group} has no key '{full}' (these have: {several}); to add it, write +{full}=…"
    here = [key for key in _dotted(nodes) if key.startswith(f"{group}.")]
    if close := get_close_matches(full, here, n=1, cutoff=0.5):
        return f"the config has no key '{full}'; did you mean '{close[0]}'?"
    groups = places.groups()
    known = {key for name in places.choices(group) for key in _keys_of_yaml(group, name)} if group in groups else set()
    top = _dotted(OmegaConf.to_container(OmegaConf.load(places.CONF / "bench.yaml"), resolve=False))
    return f"the config has no key '{full}'{nearest(full, known | groups | set(top))}"


def _keys_of_yaml(group: str, name: str) -> set[str]:
    file = places.file(group, name)
    try:
        content = None if file is None else OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    except (
        OmegaConfBaseException,
        YAMLError,
        UnicodeDecodeError,
        OSError,
    ):  # of somebody's own, and not the one in use
        content = None
    return {f"{group}.{key}" for key in _dotted(content)}


def _below_conf(name: str) -> str:
    """`recipe/mine.yaml` of a file's path."""
    path = Path(name)
    return next((str(path.relative_to(folder)) for folder in places.folders() if path.is_relative_to(folder)), name)


def _not_text() -> str | None:
    for folder in places.folders():
        for path in sorted(folder.rglob("*.yaml")):
            try:
                path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                return _below_conf(str(path))
    return None


def _dotted(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield str(name)
            yield from (f"{name}.{rest}" for rest in _dotted(value))
