"""python -m bench.audit defense=... model=... dataset=... threat=... [level=quick|standard|full]

Asks whether the defence really holds: finds its traits by experiment, sends the attacks that they select, cheap ones first and
each next one only against the images that still stand, and says what is claimed and what remains. Every attack is a cell of the
store, so a second run, or a higher level, goes on from what is there. Writes <store>/audits/<name>.json, .md and .html.
With plan=true it says what that will cost at most, and runs nothing.
"""

import sys

from bench.config import places
from bench.core.errors import BenchError


def main() -> None:
    typed = sys.argv[1:]
    if not typed or any(word in ("-h", "--help") for word in typed):
        print((__doc__ or "").strip())
        return
    from bench.audit import protocol, show, verdict
    from bench.audit.run import audit

    try:
        typed = places.taken(typed)
    except BenchError as error:
        sys.exit(f"error: {error}")
    names = [word.partition("=")[2] for word in typed if word.startswith("level=")]
    words = [word for word in typed if not word.startswith(("level=", "plan="))]
    try:
        effort = protocol.level(names[-1] if names else "quick")
        if _planned(typed):
            from bench.audit import plan

            print("\n".join(plan.lines(plan.plan(words, effort))))
            return
        found = audit(words, effort)
        page = verdict.plain(found, verdict.judge(found))
        paths = show.keep(found.cell.runtime.store / "audits", found.cell.clean_key, page)
        show.terminal(page)
        print(f"  written: {paths[1]}")
    except BenchError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("\nstopped; finished samples are kept, the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _planned(typed: list[str]) -> bool:
    """Raises BenchError for a plan= that is neither true nor false."""
    said = [word.partition("=")[2].lower() for word in typed if word.startswith("plan=")]
    if said and said[-1] not in ("true", "false"):
        raise BenchError(f"plan={said[-1]} is neither true nor false; plan=true says what an audit will cost at most")
    return bool(said) and said[-1] == "true"


if __name__ == "__main__":
    main()
