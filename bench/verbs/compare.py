"""Two cells, or the cells that two stores share, on the same images: `compare <A> <B> [store=<folder>] [--json]`. A and B are
keys (their beginnings) or folders; difference of robust accuracy with its 95% interval, and McNemar's exact test."""

import json
from dataclasses import asdict

from bench.config import resolvers
from bench.core import place
from bench.core.errors import BenchError


def main(words: list[str]) -> None:
    from bench.api.compared import Compared, cells, stores  # pandas and scipy load here

    known = [word for word in words if word not in ("--json",) and not word.startswith("store=")]
    if len(known) != 2:
        raise BenchError("compare takes two cells' keys or two stores: defence-bench compare <A> <B>")
    store = place.of(next((w.partition("=")[2] for w in words if w.startswith("store=")), resolvers.default_store()))
    both = [place.of(name) for name in known]
    found: list[Compared] = stores(*both) if all(path.is_dir() for path in both) else [cells(store, *known)]
    for each in found:
        print(json.dumps(asdict(each)) if "--json" in words else str(each))
