"""A whole network in one file: TorchScript (torch.jit.save) or an exported program (torch.export.save)."""

import warnings
import zipfile

import torch
from torch import nn

from bench.core.errors import BenchError, one_line
from bench.models.weights import locate, verify


def program(root: str | None, file: str, sha256: str | None = None) -> nn.Module:
    """Raises BenchError where the file is neither. Loading one builds the network's graph from plain data; a graph is a program
    all the same, so take files from people whom you would let run code."""
    path = locate(root, file)
    if not path.is_file():
        raise BenchError(f"no network at {path}; correct model.build.file, or set BENCH_WEIGHTS to its folder")
    verify(path, sha256)
    names = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, and yet around
            if any(name.endswith("constants.pkl") for name in names) and not any("models/" in name for name in names):
                return torch.jit.load(path, map_location="cpu").eval()
            return torch.export.load(path).module()
    except Exception as error:
        raise BenchError(
            f"{path} is neither TorchScript nor an exported program of this torch ({one_line(error)[:160]}); a state dict goes "
            "with its class: model=mine model.build._target_=… model.own.file=…"
        ) from None
