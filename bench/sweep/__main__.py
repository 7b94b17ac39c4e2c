"""python -m bench.sweep status|plan|cancel +experiment=... [words] [--json] [--watch]

status: what is done, running (where, since when, samples so far), failed (why) and missing, from the store; --watch renews it
every five seconds. plan: cells, trainings, passes and hours before anything runs. cancel: ends the grid's Slurm jobs.
"""

import json
import sys
import time
from dataclasses import asdict

from bench.config import grid
from bench.core.errors import BenchError

VERBS = ("status", "plan", "cancel")


def main() -> None:
    verb, *rest = sys.argv[1:] or ["--help"]
    if verb in ("-h", "--help"):
        print((__doc__ or "").strip())
        return
    options = {word for word in rest if word.startswith("--")}
    typed = [word for word in rest if not word.startswith("--")]
    try:
        if verb not in VERBS:
            raise BenchError(f"{verb} is unknown; it is one of {', '.join(VERBS)}")
        if unknown := options - {"--json", "--watch"}:
            raise BenchError(f"{', '.join(sorted(unknown))} is unknown; there are --json and --watch")
        {"status": _status, "plan": _plan, "cancel": _cancel}[verb](typed, options)
    except BenchError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _status(typed: list[str], options: set[str]) -> None:
    from bench.sweep import status

    cells = grid.cells(typed)
    while True:
        found = status.status(cells)
        if "--json" in options:
            print(json.dumps(status.plain(found)))
        else:
            print("\n".join(status.lines(found)), flush=True)
        if "--watch" not in options or all(each.state == "done" for each in found):
            return
        time.sleep(5)


def _plan(typed: list[str], options: set[str]) -> None:
    from bench.sweep import plan

    found = plan.plan(grid.cells(typed))
    print(json.dumps(asdict(found)) if "--json" in options else "\n".join(plan.lines(found)))


def _cancel(typed: list[str], options: set[str]) -> None:
    """Processes on this machine end with the command that started them."""
    from bench.launch import elsewhere, slurm

    cells = grid.cells(typed)
    found = elsewhere.jobs_of(cells)
    ids = list(dict.fromkeys(job.id for job in found.values()))
    slurm.cancel(ids)
    print(f"{len(ids)} Slurm jobs cancelled")
    for where in sorted({where for each, where in elsewhere.elsewhere(cells).items() if each not in found}):
        print(f"still at work {where}: end it there")


if __name__ == "__main__":
    main()
