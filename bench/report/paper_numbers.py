"""The papers' printed numbers: results/papers/*.csv, one row a number. Imports no torch."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.errors import BenchError, nearest

FOLDER = Path(__file__).resolve().parents[2] / "results" / "papers"


def read(spec: Mapping[str, Any]) -> pd.DataFrame | None:
    """The CSV that a table's YAML names, if it names one."""
    if not spec.get("printed"):
        return None
    path = FOLDER / str(spec["printed"])
    if not path.exists():
        raise BenchError(f"no printed numbers at {path}; correct `printed` or add the CSV")
    return pd.read_csv(path, dtype=str, keep_default_na=False)  # pandas would read `None` and `NA` as missing


def number(
    printed: pd.DataFrame | None, spec: Mapping[str, Any], row: Mapping[str, Any], column: Mapping[str, Any]
) -> float | None:
    """The one printed value that the row and the column describe (`delta=1;*` is a beginning); none where either has no
    `printed`."""
    if printed is None or row.get("printed") is None or column.get("printed") is None:
        return None
    where = {**(spec.get("select") or {}), **row["printed"], **column["printed"]}
    found: pd.DataFrame = printed
    for name, value in where.items():
        if name not in found.columns:
            raise BenchError(
                f"printed: {spec['printed']} has no column {name}{nearest(str(name), list(found.columns))}"
            )
        pattern = str(value)
        known = [str(each) for each in printed[name].unique()]
        same = [each for each in known if each == pattern or (pattern[-1:] == "*" and each.startswith(pattern[:-1]))]
        if not same and pattern not in _named(name):  # a table may lack a value, but a misspelt one no paper has
            raise BenchError(f"printed: {spec['printed']} has no {name}={value}{nearest(pattern, known)}")
        found = found.loc[found[name].isin(same)]
    if len(found) > 1:
        raise BenchError(f"printed: {where} matches {len(found)} rows of {spec['printed']}; make it more exact")
    return float(found["value"].iloc[0]) if len(found) else None


@cache
def _named(column: str) -> set[str]:
    """Every value of a column in all papers' numbers."""
    tables = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in sorted(FOLDER.glob("*.csv")))
    return {str(value) for table in tables if column in table for value in table[column].unique()}
