"""Files that hold no weights, other weights or an attack: one line each, and nothing in them runs."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.models.download import fetched, no_pickled_code
from bench.models.weights import digest, load_file, load_into, locate, read_record, record_path, write_record

STATE = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


def refusal(path: Path, sha256: str | None = None) -> str:
    with pytest.raises(BenchError) as caught:
        load_file(path, sha256)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def saved(path: Path, content: Any = None) -> Path:
    if path.suffix == ".safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE if content is None else content, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_good_file(tmp_path: Path, name: str) -> None:
    assert {key: value.tolist() for key, value in load_file(saved(tmp_path / name)).items()} == {
        key: value.tolist() for key, value in STATE.items()
    }


@pytest.mark.parametrize("wrap", [{"state_dict": STATE}, {"model": {"module." + k: v for k, v in STATE.items()}}])
def test_state_dict_one_level_down(tmp_path: Path, wrap: dict[str, Any]) -> None:
    assert load_file(saved(tmp_path / "w.pth", wrap)).keys() == STATE.keys()


def test_missing_file(tmp_path: Path) -> None:
    assert "no weights at" in refusal(tmp_path / "none.pt")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("keep", [0, 5, 100, -7])
def test_truncated_file(tmp_path: Path, name: str, keep: int) -> None:
    path = saved(tmp_path / name)
    path.write_bytes(path.read_bytes()[:keep])
    assert "truncated" in refusal(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_html_page(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("\n <!DOCTYPE html><html><title>Sign in</title></html>")
    assert "is an HTML page" in refusal(path)


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_pickled_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", {"weight": torch.ones(1), "more": Attack(tmp_path / "ran")})
    assert "pickled code" in refusal(path)
    with no_pickled_code(), pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}])
def test_no_state_dict(tmp_path: Path, content: Any) -> None:
    assert "holds no state dict" in refusal(saved(tmp_path / "w.pt", content))


def test_checksum(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors")
    right = digest(path)
    load_file(path, right)
    text = refusal(path, "0" * 64)
    assert right in text
    assert "0" * 64 in text


def test_record(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.safetensors")
    write_record(path, accuracy=0.75)
    write_record(path)
    assert read_record(path) == {"sha256": digest(path), "accuracy": 0.75}
    load_file(path)
    save_file({"other": torch.ones(1)}, path)
    assert record_path(path).name in refusal(path)
    record_path(path).write_text("half a rec")
    with pytest.raises(BenchError, match="no record of the form"):
        load_file(path)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"weight": torch.ones(2, 3)}, "missing bias"),
        (STATE | {f"x{i}": torch.ones(1) for i in range(5)}, "unexpected x0, x1, x2 and 2 more"),
        (STATE | {"weight": torch.ones(4, 3)}, r"other shape: weight is \(4, 3\), not \(2, 3\)"),
    ],
)
def test_other_architecture(state: dict[str, Tensor], says: str) -> None:
    with pytest.raises(BenchError, match=f"other architecture than a line: {says}"):
        load_into(nn.Linear(3, 2), state, "a line")


def test_locate(tmp_path: Path) -> None:
    assert locate(tmp_path, "w.pt") == tmp_path / "w.pt"
    assert locate(None, tmp_path / "w.pt") == tmp_path / "w.pt"
    with pytest.raises(BenchError, match="set BENCH_WEIGHTS="):
        locate(None, "w.pt")


def test_download_leaves_a_record_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "w.safetensors"

    def page(part: Path) -> None:
        part.write_text("<html>quota exceeded</html>")

    for fetch in (page, lambda part: save_file(STATE, part / "no folder")):
        with pytest.raises(BenchError, match=f"net could not be downloaded .*put its weights at {file}"):
            fetched(file, fetch, "net")
        assert list(file.parent.iterdir()) == []
    fetched(file, lambda part: save_file(STATE, part), "net")
    fetched(file, page, "net")  # there already: nothing is fetched
    assert json.loads(record_path(file).read_text()) == {"sha256": digest(file)}
