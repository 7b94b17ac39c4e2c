"""Host memory over the number of queries and samples, in one process: peak RSS after each of a few growing cells.

python scripts/memory.py [any override of conf/bench.yaml]
"""

import resource
import sys
import tempfile
from pathlib import Path

from bench.config import grid
from bench.run import cell


def main(typed: list[str]) -> None:
    with tempfile.TemporaryDirectory() as store:
        for samples, queries in ((60, 200), (60, 200), (60, 2000), (60, 6000), (240, 200)):
            wanted = [*typed, f"store={store}", f"samples.n={samples}", f"threat.queries={queries}", "defense=rnd"]
            (each,) = grid.cells(wanted)
            cell.run(each.config)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{samples} samples, {queries} queries: peak {peak:,.0f} MiB", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main(sys.argv[1:])
