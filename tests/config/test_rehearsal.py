"""A rehearsal runs every kind of cell of an experiment, as a sweep would: nothing is downloaded, tables are built."""

import socket
from pathlib import Path

import pytest
import torch

from bench.config import grid, key, needed, places
from bench.report import reporter, specification
from bench.run import cell
from bench.store.records import Cell

# A quarter of a minute to minutes of a core: CI leaves them out, before a release `pytest -m dear` has them.
DEAR = (
    "disjoint_mnist_small", "disjoint_paper", "disjoint_paper_large", "disjoint_small", "fgr_mnist_small", "fgr_paper",
    "gcm_ablation", "gcm_imagenet", "preprocessing_digits", "transformation_paper", "transformation_small", "unig_cifar",
    "unig_cifar_paper", "unig_digits", "unig_imagenet",
)  # fmt: skip
EXPERIMENTS = [
    pytest.param(name, marks=[pytest.mark.dear] if name in DEAR else [pytest.mark.paper])
    for name in places.choices("experiment")
]


def _no_network(*_: object, **__: object) -> None:
    raise AssertionError("a rehearsal needs no network")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_rehearses(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.delenv("BENCH_WEIGHTS", raising=False)
    torch.set_num_threads(1)
    words = [f"+experiment={experiment}", "rehearse=true", f"store={tmp_path}", "device=cpu", "threads=1"]
    distinct = {each.key: each for each in grid.cells(words)}
    attacked, troubles = 0, []
    for each in distinct.values():
        try:
            cell.execute(each.spec, each.runtime, cell.Line("rehearsal"), "test")
        except Exception as error:
            troubles.append(f"{each.command}: {error!r}")
            continue
        frame = Cell(each.runtime.store, each.key).frame()
        assert len(frame) == each.spec.samples.n
        attacked += int(frame["clean"].sum())
    assert not troubles, f"{len(troubles)} of {len(distinct)}: " + "\n".join(troubles[:12])
    assert attacked > 0
    made = {path.name for path in (tmp_path / "rehearsal" / "artifacts" / "weights").iterdir() if path.is_dir()}
    taken = [network for each in distinct.values() for network in needed.networks(each.spec)]
    assert made == {
        key.of(network.weights_identity()) for network in taken if network.model.trained
    }  # what a plan counts
    reporter.show(grid.cells(words), specification.read(words))
    assert capsys.readouterr().out
