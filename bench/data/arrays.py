"""Images and labels in arrays: one .npz, .pt or .safetensors file with both, or a pair of .npy files."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from bench.core.errors import BenchError, one_line
from bench.data.checks import checked_labels, known
from bench.models.weights import load_content

NAMES = (("images", "x", "data", "x_test", "arr_0", "0"), ("labels", "y", "targets", "y_test", "label", "arr_1", "1"))
KINDS = (".npz", ".npy", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class OwnArrays:
    images: Tensor  # (N, C, H, W) uint8, or float32 in [0, 1]
    labels: Tensor  # (N,) int64
    ids: Tensor

    def pixels(self, ids: Tensor) -> Tensor:
        return self.images[ids]

    def digest(self) -> str:
        kind = "" if self.images.dtype == torch.uint8 else str(self.images.dtype)
        whole = hashlib.sha256(f"{kind}{tuple(self.images.shape)}".encode())
        whole.update(self.images.numpy().tobytes() + self.labels.numpy().tobytes())
        return whole.hexdigest()


def arrays(root: str | Path | None, split: str, files: Mapping[str, Any], classes: int) -> OwnArrays:
    """`files`: split -> one file with both, or [images.npy, labels.npy]; below root, or absolute."""
    named = files[known("split", split, files)]
    if named is None:
        raise BenchError(f"dataset.source.files names no {split} images; set dataset.source.files.{split}=<file>")
    paths = [_path(root, name) for name in ([named] if isinstance(named, str) else named)]
    if len(paths) == 1:
        images, labels = _both(paths[0])
    else:
        images, labels = (_one(path) for path in paths)
    return checked(images, labels, classes, " and ".join(map(str, paths)))


def checked(images: Any, labels: Any, classes: int, where: str) -> OwnArrays:
    """From anything numpy or torch reads. Images (N, H, W), (N, C, H, W) or (N, H, W, C). Raises BenchError for floats outside
    [0, 1], labels that are no whole numbers, and numbers of images and labels that differ."""
    pixels, numbers = _tensor(images, where), _plain(labels)
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        what = f"{numbers.dtype} of shape {numbers.shape}" + (f", {numbers.flat[0]!r} first" if numbers.size else "")
        raise BenchError(f"{where}: labels are {what}; they must be whole numbers 0..{classes - 1}, one an image")
    if len(numbers) != len(pixels):
        raise BenchError(f"{where}: {len(pixels)} images but {len(numbers)} labels; bring one label an image")
    return OwnArrays(pixels, checked_labels(numbers, classes, where), torch.arange(len(pixels)))


def _tensor(images: Any, where: str) -> Tensor:
    found = torch.from_numpy(np.ascontiguousarray(_plain(images)))
    if found.ndim == 3:
        found = found[:, None]
    if found.ndim != 4:
        raise BenchError(f"{where}: images of shape {tuple(found.shape)}; they must be (N, C, H, W) or (N, H, W, C)")
    if found.shape[1] not in (1, 3) and found.shape[3] in (1, 3):
        found = found.permute(0, 3, 1, 2)
    if found.dtype == torch.uint8:
        return found.contiguous()
    if not found.is_floating_point():
        raise BenchError(f"{where}: images of {found.dtype}; they must be uint8, or floats in [0, 1]")
    low, high = (float(v) for v in found.aminmax()) if found.numel() else (0.0, 0.0)
    if not (low >= 0 and high <= 1):  # also where one is NaN
        raise BenchError(
            f"{where}: float images from {low:.3g} to {high:.3g}; scale them to [0, 1] (normalisation is the model's: "
            "model.own.mean and std)"
        )
    return found.float().contiguous()


def _plain(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _path(root: str | Path | None, name: str) -> Path:
    path = Path(root or "").expanduser() / Path(name).expanduser()
    if path.suffix not in KINDS:
        raise BenchError(f"{path}: files of arrays end in {', '.join(KINDS)}")
    if not path.is_file():
        raise BenchError(f"no data at {path}; correct dataset.source.files, or set BENCH_DATA or dataset.root")
    return path


def _both(path: Path) -> tuple[Any, Any]:
    if path.suffix == ".npy":
        raise BenchError(f"{path} holds one array; name both: dataset.source.files.test=[images.npy,labels.npy]")
    content = _numpy(path) if path.suffix == ".npz" else load_content(path)
    if isinstance(content, tuple | list) and len(content) == 2:
        return content[0], content[1]
    there = [str(name) for name in content] if isinstance(content, Mapping) else [type(content).__name__]
    found = [next((name for name in names if name in there), None) for names in NAMES]
    if found[0] is None or found[1] is None:
        raise BenchError(f"{path} holds {', '.join(there)[:100]}; it needs images and labels (or x and y)")
    return content[found[0]], content[found[1]]  # pyright: ignore[reportArgumentType, reportCallIssue]


def _one(path: Path) -> Any:
    return _numpy(path) if path.suffix == ".npy" else load_content(path)


def _numpy(path: Path) -> Any:
    try:
        found = np.load(path, allow_pickle=False)
        return {name: found[name] for name in found.files} if isinstance(found, np.lib.npyio.NpzFile) else found
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise BenchError(f"{path} is half-written, pickled or no numpy file ({one_line(error)[:100]})") from None
