"""What a launcher runs for each cell. A job never raises: it returns Done or Failed, so that one cell can't kill a sweep."""

import contextlib
import os
import re
import shlex
import signal
import sys
import traceback
from dataclasses import dataclass

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bench.config import places, rehearsal, talk
from bench.config.resolvers import visible_gpus
from bench.config.runtime import RuntimeSpec
from bench.config.specs import CellSpec
from bench.core.errors import BenchError, one_line
from bench.store import leases, marks


@dataclass(frozen=True)
class Done:
    key: str


@dataclass(frozen=True)
class Failed:
    line: str


@dataclass(frozen=True)
class Busy:
    """Another process has the cell since the sweep looked."""

    where: str


def task(config: DictConfig) -> Done | Failed | Busy:
    """Runs one cell. HYDRA_FULL_ERROR=1 shows the traceback of an unexpected error."""
    # Ray itself hands a job's words to the command that started it
    ray = "RayLauncher" in str(HydraConfig.get().launcher.get("_target_"))
    with contextlib.nullcontext() if ray else talk.logged_by_parent():
        return _run(config)


def _run(config: DictConfig) -> Done | Failed | Busy:
    from bench.run import cell  # torch loads here, in the job, and only where there is something to run
    from bench.run.progress import Line

    _end_in_order()
    places.importable()  # a launcher's process knows BENCH_CONFIG_PATH alone
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    settings = {str(name): value for name, value in plain.items()}
    try:
        settings = rehearsal.toy(settings)
        spec, runtime = CellSpec.parse(settings), RuntimeSpec.parse(settings)
    except BenchError as error:
        return Failed(str(error))
    runtime = runtime.model_copy(update={"device": _device(runtime.device)})
    line = Line(f"[{runtime.place or '1/1'}] {_name(spec)}")
    try:
        with leases.Lease(runtime.store, spec.key, _command(), runtime.shard):
            made = cell.execute(spec, runtime, line, _command())
    except leases.Held as other:
        line.end("left to another")
        return Busy(other.by.where)
    except BenchError as error:
        line.end("failed")
        return _failed(spec, runtime, str(error))
    except Exception as error:
        line.end("failed")
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        where = traceback.extract_tb(sys.exc_info()[2])[-1]
        said = f"{one_line(error)} ({where.filename}:{where.lineno}; HYDRA_FULL_ERROR=1 shows the traceback)"
        return _failed(spec, runtime, said)
    line.end("done")
    marks.forget(runtime.store, spec.key)
    return Done(made)


def _end_in_order() -> None:
    """submitit ignores SIGTERM, which on this machine is how a sweep ends its jobs."""

    def stop(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(number)

    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        signal.signal(signal.SIGTERM, stop)


def _failed(spec: CellSpec, runtime: RuntimeSpec, said: str) -> Failed:
    """Noted for the verbs `status` and `retry`, where the store can be written at all."""
    with contextlib.suppress(BenchError):  # its line is the one that is printed already
        marks.fail(runtime.store, spec.key, said, _command())
    return Failed(said)


def _name(spec: CellSpec) -> str:
    """How people call the cell: the YAMLs chosen for its groups."""
    chosen = HydraConfig.get().runtime.choices
    groups = [str(chosen[group]) for group in ("dataset", "model", "defense", "attack")]
    named = r"(seed|queries_per_image|recipe|threat\.\w+|attack\.\w+)="
    typed = [o for o in HydraConfig.get().overrides.task if re.match(named, o) and not o.startswith("threat.queries=")]
    queries = [f"q={spec.threat.queries}"] if spec.attack.queries else []
    return " ".join([*groups, *typed, *queries])


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
