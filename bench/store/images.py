"""The images that a cell judged, kept where `keep_images=true` is set: artifacts/images/<cell key>/, one safetensors file a
block, whole or not at all. Of a query attack the image of the last query. Set it before the cell's first run: a complete cell is
not run again.

The knob is in no key: a cell's records do not depend on it.
"""

import os
import uuid
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save, save_file
from torch import Tensor

from bench.core.errors import BenchError, one_line
from bench.core.place import Place, Remote
from bench.models.weights import load_file


def keep(root: Place, key: str, sample: Tensor, image: Tensor, clean: Tensor) -> None:
    """Adds a block: sample (B,) numbers, image (B,C,H,W) float32 as the attack returned it, clean (B,C,H,W) what it came from."""
    folder = root / "images" / key
    new = folder / f".tmp-{uuid.uuid4().hex[:12]}"
    pictures = {"image": image, "clean": clean}
    plain = {"sample": sample.cpu()} | {
        name: each.detach().float().cpu().clone(memory_format=torch.contiguous_format)
        for name, each in pictures.items()
    }
    if not isinstance(folder, Path) or not isinstance(new, Path):
        (folder / f"{uuid.uuid4().hex[:12]}.safetensors").write_bytes(save(plain))
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(plain, new)
        os.replace(new, folder / f"{new.name.removeprefix('.tmp-')}.safetensors")
    except (OSError, SafetensorError) as error:
        raise BenchError(
            f"can't keep images in {folder} ({one_line(error)}); free space, set artifacts=<another folder> or keep_images=false"
        ) from None


def load(root: Place, key: str) -> tuple[Tensor, Tensor]:
    """(N,) sample numbers in rising order and their (N,C,H,W) images. Raises BenchError where the cell kept none."""
    folder = root / "images" / key
    paths = sorted(folder.glob("*.safetensors"), key=str)
    blocks = [load_bytes(path.read_bytes()) if isinstance(path, Remote) else load_file(path) for path in paths]
    if not blocks:
        raise BenchError(f"no images in {folder}; they are kept by a cell that is run with keep_images=true")
    sample, image = (torch.cat([block[name] for block in blocks]) for name in ("sample", "image"))
    place = {number: i for i, number in enumerate(sample.tolist())}  # a killed run may have written a block twice
    rows = [place[number] for number in sorted(place)]
    return sample[rows], image[rows]
