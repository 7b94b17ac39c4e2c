"""Where the YAMLs lie and which groups they form: the harness's, and folders of one's own before them. Imports no torch.

A folder of one's own is named by `--config-dir`, by `hydra.searchpath`, or by BENCH_CONFIG_PATH (several, parted as in PATH);
the first two are written into the third, so that every process that a launcher starts knows them.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from bench.core.errors import BenchError

VARIABLE = "BENCH_CONFIG_PATH"
OURS = ("bench", "attacks", "defenses")
CHECKOUT = Path(__file__).resolve().parents[2]


def shipped(name: str) -> Path:
    """`conf` or `results`: of the checkout that runs, else what the wheel carries beside it, as bench_conf and bench_results."""
    here = CHECKOUT / name
    return here if (CHECKOUT / "pyproject.toml").is_file() else CHECKOUT / f"bench_{name}"


CONF = shipped("conf")


def own() -> tuple[Path, ...]:
    """The folders of one's own, in the order in which a YAML is looked for. Raises BenchError where one is none."""
    found = tuple(_absolute(name) for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name.strip())
    for folder in found:
        if not folder.is_dir():
            raise BenchError(
                f"no folder {folder}, which {VARIABLE} or --config-dir names; it holds conf/attack/… or attack/…"
            )
    return found


def add(folders: Sequence[str | Path]) -> None:
    """Looks in these first, in this process and in those that it starts. Raises BenchError where one is no folder."""
    before = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name.strip()]
    new = [str(_absolute(folder)) for folder in folders]
    if new:
        os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*new, *before]))
    importable()


def importable() -> None:
    """Modules in the start folder and in or beside a folder of one's own can be named by `_target_`. They come last in
    `sys.path`. Raises BenchError where one has the name of a package of the harness: it would be the other one's."""
    for folder in (Path.cwd(), *(each for place in own() for each in (place, place.parent))):
        if folder in (CHECKOUT, CONF) or (folder / "conf" / "bench.yaml").is_file():  # a checkout
            continue
        for name in OURS:
            if (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file():
                raise BenchError(f"{folder / name} has the name of a package of the harness; rename it (my{name}, say)")
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def folders() -> tuple[Path, ...]:
    return (*own(), CONF)


def is_group(name: str) -> bool:
    """A folder of YAMLs below conf/: `attack`, `attack/oracle`."""
    return "." not in name and any((folder / name).is_dir() for folder in folders())


def groups() -> set[str]:
    return {
        path.name for folder in folders() for path in folder.iterdir() if path.is_dir() and any(path.glob("*.yaml"))
    }


def choices(group: str) -> list[str]:
    return sorted({path.stem for folder in folders() for path in (folder / group).glob("*.yaml")})


def file(group: str, name: str) -> Path | None:
    """The YAML of a choice: the first that is found."""
    return next((path for folder in folders() if (path := folder / group / f"{name}.yaml").is_file()), None)


class OwnFolders(SearchPathPlugin):
    """Puts folders of one's own before the harness's conf/ wherever Hydra composes."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(own()):
            search_path.prepend(VARIABLE, f"file://{folder}")


def register() -> None:
    Plugins.instance().register(OwnFolders)


def _absolute(name: str | Path) -> Path:
    """`file://…`, `pkg://package.folder`, or a path."""
    kind, mark, rest = str(name).strip().partition("://")
    if not mark:
        return Path(kind).expanduser().absolute()
    if kind == "file":
        return Path(rest).expanduser().absolute()
    package, _, below = rest.replace("/", ".").partition(".")
    found = importlib.util.find_spec(package) if kind == "pkg" else None
    if found is None or not found.submodule_search_locations:
        raise BenchError(f"{name}: no such package; a folder of configs is a path, file://… or pkg://…")
    return Path(next(iter(found.submodule_search_locations)), *below.split(".")).absolute()


def taken(words: Sequence[str]) -> list[str]:
    """What was typed, without `--config-dir` and `hydra.searchpath`, whose folders are added. Raises BenchError."""
    left, found, rest = list[str](), list[str](), list(words)
    while rest:
        word = rest.pop(0)
        if word in ("--config-dir", "-cd") and rest:
            found.append(rest.pop(0))
        elif word.startswith("--config-dir="):
            found.append(word.partition("=")[2])
        elif word.lstrip("+").startswith("hydra.searchpath="):
            listed = word.partition("=")[2].strip().removeprefix("[").removesuffix("]")
            found += [each.strip().strip("'\"") for each in listed.split(",") if each.strip()]
        else:
            left.append(word)
    add(found)
    return left
