"""Writes an offline site of stores (leaderboard, papers, cells, comparison): `site results/published --out FOLDER`."""

import argparse
from pathlib import Path

from bench.core.errors import BenchError
from bench.site import write


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="defence-bench site", description=__doc__)
    parser.add_argument("stores", nargs="*", type=Path, default=[Path("results")], help="folders of results")
    parser.add_argument("--out", type=Path, help="the folder to write, <first store>/site if not given")
    parser.add_argument("--experiment", nargs="+", default=[], help="these alone, instead of all that were reported")
    parser.add_argument("--artifacts", type=Path, help="where kept images lie, <store>/artifacts if not given")
    taken = parser.parse_args(words)
    for each in taken.stores:
        if ":/" in str(each):
            raise BenchError(f"{each}: a site is made of folders; copy the store first (aws s3 sync, gsutil rsync)")
    out = taken.out or taken.stores[0] / "site"
    pages = write.site(taken.stores, out, taken.experiment, taken.artifacts)
    print(f"{len(pages)} pages; open {out / 'index.html'}")
