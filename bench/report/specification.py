"""Where an experiment's tables and figures are described: conf/tables/<experiment>.yaml. Imports no torch.

The composition of cells never reads them. A YAML of your own in conf/experiment may hold its `tables` (and `figures`) itself; an
experiment that has both is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bench.config import grid
from bench.core.errors import BenchError, nearest

PARTS = ("tables", "figures")


def described(typed: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """-> the experiment's name (`cell` without one) and {tables, figures}. Raises BenchError where both places describe them."""
    name = next((word.partition("=")[2] for word in typed if word.lstrip("+").startswith("experiment=")), "cell")
    config = grid.base(typed)
    inline = {part: OmegaConf.to_container(config[part], resolve=True) for part in PARTS if config.get(part)}
    file = grid.CONF / "tables" / f"{name}.yaml"
    if not file.is_file():
        return name, inline
    if inline:
        raise BenchError(
            f"experiment {name} has `{next(iter(inline))}` of its own and conf/tables/{name}.yaml; keep one of them"
        )
    return name, _read(name)


def _read(name: str) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(grid.CONF / "tables" / f"{name}.yaml"), resolve=True)
    except (OmegaConfBaseException, YAMLError, UnicodeDecodeError) as error:
        raise BenchError(f"can't read conf/tables/{name}.yaml: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, Mapping):
        raise BenchError(f"conf/tables/{name}.yaml must hold `tables` and may hold `figures`")
    for part in content:
        if part not in PARTS:
            raise BenchError(f"conf/tables/{name}.yaml: {part} is unknown{nearest(str(part), PARTS)}")
    return {str(part): value for part, value in content.items()}
