"""What the page that compares two cells knows: which images stand in which cell, as bits. Imports no torch.

The page computes what bench.api.compared does (difference, interval, McNemar's test); a test holds one against the other.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from math import isclose
from typing import Any

import numpy as np

from bench.site.cells import CellPage
from bench.site.experiments import Experiment


def data(
    pages: Sequence[tuple[CellPage, str]],
    pictures: Mapping[str, Sequence[int]],
    found: Sequence[tuple[str, Experiment]],
) -> str:
    """A script that sets window.BENCH: the lists of samples that cells share; of every attacked cell its page, which list it
    has, its bits in the list's order, and the samples that it has pictures of; rows of tables by the cells of their worst case.
    found: experiments with the page that has their tables."""
    lists: dict[tuple[str, bytes], int] = {}
    samples: list[list[int]] = []
    cells = []
    for page, path in pages:
        order = np.argsort(page.sample, kind="stable")
        sample, stands = page.sample[order], page.stands[order]
        place = (page.data, sample.tobytes())
        if place not in lists:
            lists[place] = len(samples)
            samples.append(sample.tolist())
        cells.append(_cell(page, path, lists[place], stands, pictures.get(path, ())))
    whole = {"samples": samples, "cells": cells, "rows": _rows(pages, found)}
    return f"window.BENCH={json.dumps(whole, separators=(',', ':'))};\n"


def _rows(pages: Sequence[tuple[CellPage, str]], found: Sequence[tuple[str, Experiment]]) -> list[dict[str, Any]]:
    """Rows whose worst case the cells' bits give as the table has it (a table may be of fewer images)."""
    places = {(page.store, page.key): i for i, (page, _) in enumerate(pages)}
    rows = []
    for path, e in found:
        titles = {shown.table.name: shown.table for shown in e.tables}
        for each in e.worst:
            entry = titles[each.table].entries.get((each.row, each.column))
            of = [places.get((e.store, key)) for key in each.keys]
            known = [i for i in of if i is not None]
            if entry is None or entry.ours is None or len(known) < len(of):
                continue
            stands = robust([pages[i][0] for i in known])
            share = 100 * sum(stands) / max(len(stands), 1)
            if len(stands) == entry.ours.n and isclose(share, entry.ours.value):
                name = f"{each.row}: {each.column}, {titles[each.table].title}"
                rows.append({"key": f"{e.name}/{each.table}/{each.row}/{each.column}", "name": name, "set": e.name,
                             "data": pages[known[0]][0].data, "page": path, "cells": known})  # fmt: skip
    return rows


def robust(pages: Sequence[CellPage]) -> list[bool]:
    """Of the samples that all cells have: does the image stand in each?"""
    each = [dict(zip(page.sample.tolist(), page.stands.tolist(), strict=True)) for page in pages]
    common = [sample for sample in each[0] if all(sample in one for one in each[1:])]
    return [all(one[sample] for one in each) for sample in common]


def _cell(page: CellPage, path: str, of: int, stands: np.ndarray, shown: Sequence[int]) -> dict[str, Any]:
    bits = base64.b64encode(np.packbits(stands).tobytes()).decode()
    return {"key": page.key, "name": page.name, "set": page.experiment, "data": page.data, "page": path, "of": of, "bits": bits,
            "shown": list(shown)}  # fmt: skip
