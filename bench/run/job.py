"""What a launcher runs for each cell. A job never raises: it returns Done or Failed, so that one cell can't kill a sweep."""

import os
import re
import shlex
import sys
import traceback
from dataclasses import dataclass
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bench.config import identity
from bench.config.resolvers import visible_gpus
from bench.core.errors import BenchError, one_line


@dataclass(frozen=True)
class Done:
    key: str


@dataclass(frozen=True)
class Failed:
    line: str


def task(config: DictConfig) -> Done | Failed:
    """Runs one cell. HYDRA_FULL_ERROR=1 shows the traceback of an unexpected error."""
    from bench.run import cell  # torch loads here, in the job, and only where there is something to run
    from bench.run.progress import Line

    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    settings = {str(name): value for name, value in plain.items()}
    settings["device"] = _device(settings["device"])
    line = Line(f"[{settings['place'] or '1/1'}] {_name(settings)}")
    try:
        made = cell.run(settings, line, _command())
    except BenchError as error:
        line.end("failed")
        return Failed(str(error))
    except Exception as error:
        line.end("failed")
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        where = traceback.extract_tb(sys.exc_info()[2])[-1]
        return Failed(f"{one_line(error)} ({where.filename}:{where.lineno}; HYDRA_FULL_ERROR=1 shows the traceback)")
    line.end("done")
    return Done(made)


def _name(settings: dict[str, Any]) -> str:
    """How people call the cell: the YAMLs chosen for its groups."""
    chosen = HydraConfig.get().runtime.choices
    groups = [str(chosen[group]) for group in ("dataset", "model", "defense", "attack")]
    typed = [
        o for o in HydraConfig.get().overrides.task if re.match(r"(seed|average|recipe|threat\.\w+|attack\.\w+)=", o)
    ]
    asks = identity.asks(settings["attack"]) and settings["attack"].get("_target_")
    queries = [f"q={settings['threat']['queries']}"] if asks else []
    return " ".join([*groups, *(o for o in typed if not o.startswith("threat.queries=")), *queries])


def _command() -> str:
    """What a person would type for this cell alone, kept with its records."""
    typed = [o for o in HydraConfig.get().overrides.task if not o.startswith("place=")]
    return shlex.join(["python", "-m", "bench", *typed])


def _device(chosen: str) -> str:
    """Jobs side by side on one machine take its GPUs in turn; a cluster's job sees only its own."""
    gpus = visible_gpus()
    if chosen not in ("auto", "cuda") or gpus < 2:
        return chosen
    return f"cuda:{int(HydraConfig.get().job.num) % gpus}"
