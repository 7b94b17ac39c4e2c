"""What the page that compares two cells knows: which images stand in which cell, as bits. Imports no torch.

The page computes what bench.api.compared does (difference, interval, McNemar's test); a test holds one against the other.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.site.cells import CellPage


def data(pages: Sequence[tuple[CellPage, str]], pictures: Mapping[str, Sequence[int]]) -> str:
    """A script that sets window.BENCH: the lists of samples that cells share, and of every attacked cell its page, which list it
    has, its bits in the list's order, and the samples that it has pictures of."""
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
    # `<` can't end the script early: the file is a script of its own, but a name may end up in a page
    return f"window.BENCH={json.dumps({'samples': samples, 'cells': cells}, separators=(',', ':'))};\n"


def _cell(page: CellPage, path: str, of: int, stands: np.ndarray, shown: Sequence[int]) -> dict[str, Any]:
    bits = base64.b64encode(np.packbits(stands).tobytes()).decode()
    return {"key": page.key, "name": page.name, "set": page.experiment, "data": page.data, "page": path, "of": of, "bits": bits,
            "shown": list(shown)}  # fmt: skip
