"""Every stored record with its config, as a table: `records [store=<folder>] [--csv | --json] [--columns]`. Without a format it
counts; --columns prints what each column means."""

import sys

from bench.core.errors import BenchError


def main(words: list[str]) -> None:
    formats = [word for word in words if word.startswith("--")]
    stores = [word.partition("=")[2] for word in words if word.startswith("store=")]
    for word in words:
        if word not in ("--csv", "--json", "--columns") and not word.startswith("store="):
            raise BenchError(f"records does not know {word!r}; it takes store=<folder>, --csv, --json and --columns")
    from bench.store import dictionary

    if "--columns" in formats:
        for name, meaning in dictionary.COLUMNS.items():
            print(f"{name:24} {meaning}")
        return
    from bench.api.stored import records

    frame = records(stores[-1] if stores else None)
    if "--csv" in formats:
        frame.to_csv(sys.stdout, index=False)
    elif "--json" in formats:
        frame.to_json(sys.stdout, orient="records", lines=True)
    else:
        print(
            f"{len(frame)} records of {frame['cell'].nunique()} cells; --csv or --json writes them, --columns explains them"
        )
