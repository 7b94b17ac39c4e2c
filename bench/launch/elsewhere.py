"""Cells that others work on, or that a cluster was given: started again they would cost twice. Imports no torch."""

import socket
import sys
import time
from collections.abc import Iterable
from itertools import chain

from bench.config.grid import GridCell
from bench.core.errors import BenchError
from bench.core.place import Place
from bench.launch import slurm
from bench.store import leases, marks

ASKED = 30.0  # seconds that sbatch may take from being noted to its jobs being listed


def name(cell: GridCell) -> str:
    """The cell, or the shard of it that is asked for."""
    shard = "{}/{}".format(*cell.runtime.shard)
    return cell.key if shard == "1/1" else f"{cell.key} {shard}"


def elsewhere(cells: Iterable[GridCell]) -> dict[str, str]:
    """name -> where, in words."""
    found: dict[str, str] = {}
    for store in {cell.runtime.store for cell in cells}:
        found |= of_store(store)
    return {one: found[one] for one in map(name, cells) if one in found}


def of_store(store: Place) -> dict[str, str]:
    """name -> where, of all that the store knows to be at work or queued."""
    held, given = leases.running(store), marks.submitted(store)
    jobs = _queue() if given or any(one.job for one in held.values()) else None
    found: dict[str, str] = {}
    if jobs is not None:
        found |= _queued(store, given, jobs)
    ids = {job.id for job in jobs or []}
    for path, one in held.items():
        if one.job and jobs is not None and one.job not in ids:
            leases.drop(path, one)  # killed on another machine, where its process can't be looked for
            continue
        found[one.key if one.shard == "1/1" else f"{one.key} {one.shard}"] = one.where
    return found


def jobs_of(cells: Iterable[GridCell]) -> dict[str, slurm.Job]:
    """name -> its job in Slurm."""
    names, found = {name(cell) for cell in cells}, dict[str, slurm.Job]()
    for store in {cell.runtime.store for cell in cells}:
        given = marks.submitted(store)
        for one in slurm.queue() if given else []:
            for submission in given:
                if submission.name == one.name and one.index < len(submission.jobs):
                    found |= dict.fromkeys(submission.jobs[one.index], one)
    return {each: job for each, job in found.items() if each in names}


def _queue() -> list[slurm.Job] | None:
    """None: nobody can say. The leases of jobs that run still hold."""
    if not slurm.there():
        return None
    for again in range(3):
        try:
            return slurm.queue()
        except BenchError as error:
            print(f"{error}; asking again", file=sys.stderr)
            time.sleep(5 * again)
    raise BenchError("Slurm does not answer, and this store has jobs there; start again when it does")


def _queued(store: Place, given: list[marks.Submission], jobs: list[slurm.Job]) -> dict[str, str]:
    found: dict[str, str] = {}
    for submission in given:
        own = [job for job in jobs if job.name == submission.name and job.index < len(submission.jobs)]
        for job in own:
            group = submission.jobs[job.index]
            # a cell at work has a lease, which is told instead
            state = "starting" if job.state == "RUNNING" and len(group) == 1 else job.state.lower()
            told = ", ".join(part for part in (state, job.waits) if part)
            found |= dict.fromkeys(group, f"Slurm job {job.id} ({told})")
        if own:
            continue
        if time.time() - submission.when > ASKED:
            marks.withdraw(store, submission.name)
        elif submission.host != socket.gethostname() or leases.here(submission.pid):
            found |= dict.fromkeys(chain.from_iterable(submission.jobs), f"being given to Slurm on {submission.host}")
    return found
