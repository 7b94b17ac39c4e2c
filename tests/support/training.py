"""A data set in memory, a small network and a recipe's YAML, for tests that train."""

import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from sklearn.datasets import load_digits
from torch import Tensor, nn

from bench.models.small_cnn import small_cnn
from bench.models.split import Split

CONF = Path(__file__).resolve().parents[2] / "conf" / "recipe"
CPU = torch.device("cpu")


class Memory:
    """A Source over tensors."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels, self.ids = images, labels, torch.arange(len(labels))

    def pixels(self, ids: Tensor) -> Tensor:
        return self.images[ids]

    def digest(self) -> str:
        return ""


def digits(start: int, stop: int) -> Memory:
    found: Any = load_digits()
    images = torch.from_numpy(found.images * (255 / 16)).round().to(torch.uint8)[:, None]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[start:stop]
    return Memory(images[order], torch.from_numpy(found.target).long()[order])


def recipe(name: str, **changes: Any) -> dict[str, Any]:
    """A recipe's YAML over the ones in its defaults list."""
    config: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    bases = [base for base in config.pop("defaults", []) if base != "_self_"]
    whole = {k: v for base in bases for k, v in recipe(base).items()}
    for k, v in config.items():
        whole[k] = {**whole[k], **v} if isinstance(v, dict) and isinstance(whole.get(k), dict) else v
    return {**whole, **changes}


def network(dropout: float = 0.0) -> Split:
    model = small_cnn(10, [1, 8, 8], [0.3], [0.38], width=8, hidden=32)
    model.features = nn.Sequential(model.features, nn.Dropout(dropout))
    return model


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
