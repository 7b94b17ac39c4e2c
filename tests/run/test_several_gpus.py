"""Several GPUs, pretended: which one a name means, and one job a GPU in turn."""

from types import SimpleNamespace

import pytest
import torch

from bench.core.device import device_of
from bench.core.errors import BenchError
from bench.run import job


def test_a_gpu_that_is_not_there_is_named_with_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of("cuda:1") == torch.device("cuda:1") and device_of("cuda") == torch.device("cuda")
    with pytest.raises(BenchError, match=r"device=cuda:2, but 2 CUDA devices are visible.*CUDA_VISIBLE_DEVICES"):
        device_of("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BenchError, match="device=cuda, but 0 CUDA devices"):
        device_of("cuda")


@pytest.mark.parametrize(
    ("chosen", "gpus", "taken"),
    [
        ("cuda", 2, ["cuda:0", "cuda:1", "cuda:0"]),
        ("auto", 3, ["cuda:0", "cuda:1", "cuda:2"]),
        ("cuda:1", 2, ["cuda:1"] * 3),
        ("cpu", 2, ["cpu"] * 3),
        ("auto", 1, ["auto"] * 3),
        ("auto", 0, ["auto"] * 3),
    ],
)
def test_jobs_side_by_side_take_the_gpus_in_turn(
    chosen: str, gpus: int, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "visible_gpus", lambda: gpus)

    def of(number: int) -> str:
        hydra = SimpleNamespace(get=lambda: SimpleNamespace(job=SimpleNamespace(num=number)))
        monkeypatch.setattr(job, "HydraConfig", hydra)
        return job._device(chosen)

    assert [of(number) for number in range(3)] == taken
