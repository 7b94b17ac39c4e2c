"""python -m bench, and the command `defence-bench`: a verb of `bench/verbs/` with its words, or `run` without one. No torch."""

import sys

from bench import verbs
from bench.config import places
from bench.core.errors import BenchError


def main() -> None:
    words = sys.argv[1:]
    name = words.pop(0) if words and words[0] in verbs.names() else "run"
    try:
        words = places.taken(words)
        verbs.verb(name)(words)
    except BenchError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as stopped:
        print("\nstopped; finished samples are kept, the same command goes on from here", file=sys.stderr)
        sys.exit(128 + (stopped.args[0] if stopped.args else 2))


if __name__ == "__main__":
    main()
