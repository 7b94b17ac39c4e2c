"""bench.audit in Python: objects in memory, the same page as the command line's."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import bench
from bench.core.errors import BenchError
from tests.support import noops
from tests.support.scene import Scene

WORDS = ["device=cpu", "threads=1"]


def test_a_network_and_a_defence_of_the_session_are_audited(digits: Scene, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"threat": "linf 1/12", "classes": 10, "store": tmp_path, "words": WORDS}
    network: nn.Module = digits.network
    data = digits.x[:6], digits.y[:6]
    found, bare = (bench.audit(network, data, each, **fields) for each in (noops.Large, None))
    assert found.page["claimed"]["n"] == 6 and found.remains <= min(bare.remains + 17, found.claimed)  # an image
    transfer = next(step for step in found.page["steps"] if step["name"].startswith("transfer from the undefended"))
    assert transfer["broken"] > 0  # crafted on the object itself
    assert json.loads(found.files[0].read_text()) == found.page and found.files[2].read_text() == found._repr_html_()
    assert "remains" in repr(found)
    with pytest.raises(BenchError, match=r"declares Traits\(stochastic=False\)"):
        bench.audit(network, data, noops.SaysDeterministic, **fields)
