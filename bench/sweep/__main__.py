"""python -m bench.sweep status|plan|retry +experiment=... [words] [--json] [--watch]

status: what is done, running (where, since when, samples so far), failed (why) and missing, from the store; --watch renews it
every five seconds. plan: cells, trainings, passes and hours before anything runs. retry: runs the failed cells, and no other.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict

from bench.config import grid
from bench.core.errors import BenchError

VERBS = ("status", "plan", "retry")


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
        {"status": _status, "plan": _plan, "retry": _retry}[verb](typed, options)
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


def _retry(typed: list[str], options: set[str]) -> None:
    """Each failed cell by its own command, so that no other is started."""
    from bench.sweep import status

    failed = [each for each in status.status(grid.cells(typed)) if each.state == "failed"]
    print(f"{len(failed)} cells to run again", file=sys.stderr)
    by_key = {cell.key: cell for cell in grid.cells(typed)}
    codes = [
        subprocess.run([sys.executable, "-m", "bench", *by_key[each.key].overrides], check=False).returncode
        for each in failed
    ]
    if any(codes):
        sys.exit(1)


if __name__ == "__main__":
    main()
