"""submitit's executors with a waiting of our own: theirs asks sacct, and waits for ever where nothing will come.

A cell that Slurm was given is noted in the store before (bench/store/marks.py), so that a second start waits for its job instead
of submitting it again. Imports no torch.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.singleton import Singleton
from hydra.plugins.launcher import Launcher

from bench.config import talk
from bench.core.errors import BenchError, one_line
from bench.core.place import Place
from bench.launch import slurm
from bench.launch.several import Several
from bench.store import marks

GRACE = 10.0  # seconds after which a job that is neither listed nor has left a result is lost: shared disks are late
CHANGE = "change hydra.launcher.partition, cpus_per_task, mem_gb, timeout_min, gpus_per_node (device=cpu asks for none)"
# settings of all of submitit's executors; the others belong to one kind, whose name stands before them
COMMON = {
    "timeout_min",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "mem_gb",
    "nodes",
    "name",
    "stderr_to_stdout",
}
EVERY = 2.0  # seconds between two looks


class Work(NamedTuple):
    """One cell, or one shard of it."""

    name: str  # the cell's key, or key and shard
    overrides: list[str]


class Sent(NamedTuple):
    at: tuple[int, ...]  # the places in the list of works
    job: Any  # submitit's


Outcome = tuple[int, Any]  # which work, and what its task returned or an exception


def of_slurm(launcher: Launcher, works: Sequence[Work], store: Place, first: int, each: int = 1) -> Iterator[Outcome]:
    """One array of jobs that do `each` cells, or several where Slurm takes no larger ones. Raises BenchError with sbatch's
    reason."""
    size = slurm.largest_array() * each
    batches = [range(start, min(start + size, len(works))) for start in range(0, len(works), size)]
    names = [f"{_params(launcher).get('name') or 'bench'}-{uuid.uuid4().hex[:8]}" for _ in batches]
    sent: list[Sent] = []
    for name, batch in zip(names, batches, strict=True):
        sent += _give(
            launcher, name, works, store, first, [tuple(batch[i : i + each]) for i in range(0, len(batch), each)]
        )
    yield from _finished(sent, _Queue(names))
    for name in names:  # a caller that stops earlier leaves jobs that go on
        marks.withdraw(store, name)
    for folder in {_of_array(one.job) for one in sent}:
        shutil.rmtree(folder, ignore_errors=True)
        for link in folder.parent.glob(".submission_file_*"):  # submitit's, into those folders
            if not link.exists():
                link.unlink(missing_ok=True)


def _give(
    launcher: Launcher, name: str, works: Sequence[Work], store: Place, first: int, groups: Sequence[tuple[int, ...]]
) -> list[Sent]:
    marks.submit(store, name, [[works[i].name for i in group] for group in groups])
    try:
        jobs = _submit(launcher, {"name": name}, [[works[i] for i in group] for group in groups], first + groups[0][0])
    except BaseException:
        marks.withdraw(store, name)
        raise
    return [Sent(group, job) for group, job in zip(groups, jobs, strict=True)]


def of_this_machine(launcher: Launcher, works: Sequence[Work], at_once: int, first: int) -> Iterator[Outcome]:
    """At most `at_once` processes; none is left where this one is interrupted."""
    waiting, sent = list(enumerate(works)), list[Sent]()
    try:
        while waiting or sent:
            while waiting and len(sent) < at_once:
                i, work = waiting.pop(0)
                sent.append(Sent((i,), _submit(launcher, {}, [[work]], first + i)[0]))
            time.sleep(0.2)
            for one in [each for each in sent if each.job.done()]:
                sent.remove(one)
                yield from _results(one)
    finally:
        _end([one.job._process for one in sent])


def _end(controllers: Sequence[subprocess.Popen[bytes]]) -> None:
    """A controller hands SIGTERM to its job, which keeps what is finished; SIGINT ends both, and is not quiet."""
    for each in controllers:
        each.terminate()
    for each in controllers:
        try:
            each.wait(10)
        except subprocess.TimeoutExpired:  # a job that was just starting
            each.send_signal(signal.SIGINT)
            each.wait()


def of_any(launcher: Launcher, works: Sequence[Work], first: int) -> Iterator[Outcome]:
    """Hydra's own, joblib's and Ray's: they answer when all are done, or by an exception that says nothing of the others."""
    try:
        done = launcher.launch([work.overrides for work in works], initial_job_idx=first)
    except Exception as error:  # a worker was killed, and its pool with it
        yield from ((i, error) for i in range(len(works)))
        return
    for i, each in enumerate(done):
        try:
            yield i, each.return_value  # raises what Hydra met on the way to the task
        except Exception as error:
            yield i, error


def _submit(launcher: Launcher, changed: dict[str, Any], groups: Sequence[Sequence[Work]], first: int) -> list[Any]:
    """As hydra-submitit-launcher's `launch` does, but a job a group and without waiting. Raises BenchError."""
    import submitit  # only where it is used

    params = _params(launcher) | changed
    kind: str = launcher._EXECUTOR  # pyright: ignore[reportAttributeAccessIssue]
    folder, timeouts = params.pop("submitit_folder"), params.pop("max_num_timeout", None)
    try:
        executor = submitit.AutoExecutor(
            cluster=kind, folder=folder, **({f"{kind}_max_num_timeout": timeouts} if timeouts is not None else {})
        )
        executor.update_parameters(**{key if key in COMMON else f"{kind}_{key}": v for key, v in params.items()})
        state = Singleton.get_state()
        starts = accumulate(map(len, groups), initial=first)
        lists = [
            ([list(work.overrides) for work in group], "hydra.sweep.dir", start, state)
            for group, start in zip(groups, starts, strict=False)
        ]
        with contextlib.redirect_stderr(io.StringIO()):  # sbatch's complaint comes with the exception, too
            return executor.map_array(Several(launcher), *zip(*lists, strict=True))
    except BenchError:
        raise
    except Exception as error:
        said = slurm.reason(str(error) or one_line(error))
        raise BenchError(f"{kind} takes no such job ({said}); {CHANGE}") from None


def _params(launcher: Launcher) -> dict[str, Any]:
    return dict(launcher.params)  # pyright: ignore[reportAttributeAccessIssue]


class _Queue:
    """What is left of some submissions, told whenever it changes."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.said = set(names), ""

    def __call__(self) -> set[str] | None:
        """The ids of those that are queued or at work; None where Slurm does not answer now."""
        try:
            left = [job for job in slurm.queue() if job.name in self.names]
        except BenchError as error:
            self._say(f"{error}; asking again")
            return None
        reasons = sorted({job.waits for job in left if job.waits} - {"None"})
        pending = sum(job.state == "PENDING" for job in left)
        told = f"Slurm: {len(left) - pending} at work, {pending} pending" + (
            f" ({'; '.join(reasons)})" if reasons else ""
        )
        if left:
            self._say(told)
        return {job.id for job in left}

    def _say(self, line: str) -> None:
        if line != self.said:
            talk.say(line)
        self.said = line


def _finished(sent: Sequence[Sent], queue: Callable[[], set[str] | None]) -> Iterator[Outcome]:
    """Each job's result as soon as it is there; of jobs that are gone without one, how they ended."""
    left, gone = list(sent), dict[tuple[int, ...], float]()
    while left:
        listed = queue()
        for one in list(left):
            if _there(one.job.paths.result_pickle):
                left.remove(one)
                yield from _results(one)
            elif listed is not None and one.job.job_id in listed:
                gone.pop(one.at, None)
            elif listed is not None and time.monotonic() - gone.setdefault(one.at, time.monotonic()) > GRACE:
                left.remove(one)
                yield from ((i, _lost(one.job)) for i in one.at)
        if left:
            time.sleep(EVERY)


def _of_array(job: Any) -> Path:
    """The folder of the array's script, beside those of its tasks."""
    return job.paths.folder.with_name(job.job_id.partition("_")[0])


def _lost(job: Any) -> BenchError:
    ended = f"Slurm job {job.job_id} ended before its cell did ({slurm.last_word(job.job_id)})"
    return BenchError(f"{ended}; its log is {job.paths.stderr}; the verb retry runs it again")


def _there(path: Path) -> bool:
    """Listing the folder makes a shared disk look again."""
    try:
        return path.name in os.listdir(path.parent)
    except OSError:
        return False


def _results(one: Sent) -> Iterator[Outcome]:
    """What the tasks returned, or the exceptions that they met. The files of a job that ended well are of no more use."""
    try:
        values = one.job.results()[0]
    except Exception as error:
        values = [error] * len(one.at)
    else:
        shutil.rmtree(one.job.paths.folder, ignore_errors=True)
    yield from zip(one.at, values, strict=True)
