"""A table as files to take away: CSV, parquet, LaTeX. Imports no torch."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from bench.report.formats.comma_separated import comma_separated
from bench.report.formats.latex import escaped, latex
from bench.report.formats.write import save
from bench.site.experiments import Shown

FOLDER = "data"


def of_table(out: Path, stem: str, shown: Shown) -> dict[str, str]:
    """{kind: path below the site}."""
    text = comma_separated(shown.table)
    return _written(out, stem, text, latex(shown.table, list(shown.notes)))


def of_rows(out: Path, stem: str, rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> dict[str, str]:
    """Of a table that is no report's."""
    frame = pd.DataFrame([dict(row) for row in rows], columns=list(columns))
    head = " & ".join(map(escaped, columns))
    body = [" & ".join(escaped(str(value)) for value in row) + r" \\" for row in frame.itertuples(index=False)]
    lines = [
        "% needs \\usepackage{booktabs}",
        rf"\begin{{tabular}}{{{'l' * len(columns)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
    ]
    return _written(
        out, stem, frame.to_csv(index=False), "\n".join([*lines, *body, r"\bottomrule", r"\end{tabular}", ""])
    )


def _written(out: Path, stem: str, text: str, tex: str) -> dict[str, str]:
    parquet = io.BytesIO()
    pd.read_csv(io.StringIO(text)).to_parquet(parquet, index=False)
    contents = {
        "CSV": ("csv", text.encode()),
        "parquet": ("parquet", parquet.getvalue()),
        "LaTeX": ("tex", tex.encode()),
    }
    paths = {kind: f"{FOLDER}/{stem}.{ending}" for kind, (ending, _) in contents.items()}
    for kind, (_, content) in contents.items():
        save(out / paths[kind], content)
    return paths
