"""What Slurm says of this user's jobs, and how they are ended: squeue, scontrol and scancel, for accounting (sacct) is not
everywhere. Imports no torch."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from bench.core.errors import BenchError

SECONDS = 60  # that a command of Slurm's may take
# reasons to pend that do not pass by themselves
HOPELESS = {
    "PartitionConfig": "the partition has no node with what a job asks for",
    "BadConstraints": "no node has what a job asks for",
    "AssocMaxJobsLimit": "the account may have no more",
    "PartitionTimeLimit": "the partition allows less time",
    "PartitionDown": "the partition is down",
}


@dataclass(frozen=True)
class Job:
    """A job that is queued or at work."""

    id: str  # 12, or 12_3 for a task of an array
    name: str
    index: int  # in its array; 0 of none
    state: str  # PENDING, RUNNING, COMPLETING, ...
    reason: str  # to pend

    @property
    def waits(self) -> str | None:
        """Why it pends; None: it doesn't."""
        if self.state != "PENDING":
            return None
        return f"{self.reason}: {HOPELESS[self.reason]}" if self.reason in HOPELESS else self.reason


def there() -> bool:
    return shutil.which("squeue") is not None


def queue() -> list[Job]:
    """All of this user's jobs that are queued or at work. Raises BenchError where Slurm does not answer."""
    told = _ask("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%j|%K|%T|%r")
    return [_job(*line.split("|")) for line in told.splitlines() if line.count("|") == 4]


def _job(id: str, name: str, index: str, state: str, reason: str) -> Job:
    return Job(id.strip(), name, int(index) if index.isdigit() else 0, state, reason)


def last_word(id: str) -> str:
    """How a job ended, where Slurm still knows (some minutes long): `CANCELLED, exit code 0:9`; else 'it is gone'."""
    try:
        told = _ask("scontrol", "--oneliner", "show", "job", id)
    except BenchError:
        return "it is gone"
    state, code = (re.search(rf"\b{name}=(\S+)", told) for name in ("JobState", "ExitCode"))
    return f"{state[1]}, exit code {code[1]}" if state and code else "it is gone"


def cancel(ids: Sequence[str]) -> None:
    """Raises BenchError."""
    for start in range(0, len(ids), 500):
        _ask("scancel", *ids[start : start + 500])


def largest_array() -> int:
    """Tasks that one array may have."""
    try:
        found = re.search(r"MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config"))
    except BenchError:
        found = None
    return max(int(found[1]), 1) if found else 1000


def reason(said: str) -> str:
    """sbatch's own words out of a longer text."""
    lines = [line.partition("error:")[2].strip() for line in said.splitlines() if "error:" in line]
    return "; ".join(dict.fromkeys(lines)) or " ".join(said.split())[-300:]


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except FileNotFoundError:
        raise BenchError(f"{command[0]} is not here; start this on a machine of the cluster") from None
    except subprocess.TimeoutExpired:
        raise BenchError(f"{command[0]} did not answer within {SECONDS} seconds") from None
    if done.returncode:
        raise BenchError(f"{command[0]}: {reason(done.stderr or done.stdout)}")
    return done.stdout
