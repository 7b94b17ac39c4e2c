"""A Slurm of one machine in a folder of its own: munged, slurmctld and slurmd on loopback, on free ports, ended by their ids.

As root, with Debian's slurm-wlm and munge. Jobs requeued start at once (cred_expire), a cancelled one has two seconds (KillWait).
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
CPUS = 2


def lacking() -> str | None:
    """Why there can be no Slurm here; None: there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "needs root to start a Slurm of its own"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"needs {', '.join(missing)} (apt-get install slurm-wlm munge)" if missing else None


def _ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _configuration(folder: Path) -> str:
    name, (control, daemon) = socket.gethostname().split(".")[0], _ports(2)
    return f"""ClusterName=test
SlurmctldHost={name}(127.0.0.1)
SlurmUser=root
SlurmctldPort={control}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
KillWait=2
MinJobAge=60
SchedulerParameters=sched_interval=1,batch_sched_delay=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={name} NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory=4096 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextlib.contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """-> the environment in which Slurm's clients find it. folder: short (a socket lies in it) and empty."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    configuration.write_text(_configuration(folder))
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    munged = [
        "munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={folder}/munge.key",
        f"--pid-file={folder}/munged.pid", f"--seed-file={folder}/munge.seed", f"--log-file={folder}/munged.log",
    ]  # fmt: skip
    daemons: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(folder / "daemons.log", "wb"))
        stack.callback(_end, daemons)
        for command in (
            munged,
            ["slurmctld", "-D", "-f", str(configuration)],
            ["slurmd", "-D", "-f", str(configuration)],
        ):
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            if command is munged:
                _until(lambda: (folder / "munge.socket").exists(), folder)
        _until(lambda: "idle" in _states(environment), folder)
        yield environment
        subprocess.run(["scancel", "--signal=KILL", "--user=root"], env=environment, capture_output=True)
        subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True)
        time.sleep(1)


def _states(environment: dict[str, str]) -> str:
    return subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True).stdout


def _until(true, folder: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            told = [f"{path.name}: {path.read_text()[-1500:]}" for path in folder.glob("*.log")]
            raise RuntimeError("Slurm did not start: " + "\n".join(told))
        time.sleep(0.2)


def _end(daemons: list[subprocess.Popen[bytes]]) -> None:
    for process in reversed(daemons):
        process.terminate()
    for process in reversed(daemons):
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
