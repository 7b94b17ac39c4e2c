"""Kept images of a cell (keep_images=true) as PNG: clean, adversarial, ten times their difference. Imports no torch."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bench.core.errors import BenchError, one_line
from bench.report.formats.write import save

MOST = 24  # of a cell; broken ones first
TIMES = 10  # the difference, around grey
Kept = dict[int, tuple[np.ndarray, np.ndarray]]  # sample -> (clean, adversarial)


@dataclass(frozen=True)
class Picture:
    """Three PNGs of one sample, by their paths below the site."""

    sample: int
    outcome: str
    said: str
    clean: str
    adversarial: str
    difference: str


def load(artifacts: Path, key: str) -> Kept:
    """{sample: (clean, adversarial)}, each (C,H,W) float32; {} where the cell kept none. Raises BenchError."""
    found: Kept = {}
    for path in sorted((artifacts / "images" / key).glob("*.safetensors")):
        try:
            block = load_file(path)
        except (OSError, SafetensorError) as error:
            raise BenchError(
                f"can't read {path} ({one_line(error)}); delete it, its images are shown no more"
            ) from None
        if "clean" not in block:  # kept before clean images were kept beside them
            continue
        rows = zip(block["sample"].tolist(), block["clean"], block["image"], strict=True)
        found |= {sample: (clean, image) for sample, clean, image in rows}
    return found


def png(image: np.ndarray) -> bytes:
    """(C,H,W) in [0, 1], C 1 or 3."""
    from PIL import Image

    plain = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    out = io.BytesIO()
    Image.fromarray(plain[:, :, 0] if plain.shape[2] == 1 else plain).save(out, "png", optimize=True)
    return out.getvalue()


def write(out: Path, folder: str, kept: Kept, outcomes: dict[int, tuple[str, str]]) -> list[Picture]:
    """PNGs below out/folder. outcomes: sample -> (outcome, words); broken samples come first."""
    order = sorted(
        (sample for sample in kept if sample in outcomes), key=lambda each: (outcomes[each][0] != "broken", each)
    )
    found = []
    for sample in order[:MOST]:
        clean, image = kept[sample]
        three = {"clean": clean, "adversarial": image, "difference": 0.5 + TIMES * (image - clean)}
        paths = {name: f"{folder}/{sample}-{name}.png" for name in three}
        for name, each in three.items():
            save(out / paths[name], png(each))
        found.append(Picture(sample, *outcomes[sample], **paths))
    return found
