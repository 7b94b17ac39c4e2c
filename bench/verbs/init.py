"""Writes a small project of one's own, ready to run: `init mine`. A defence, a network, an experiment, a test of the traits."""

from pathlib import Path

from bench.core.errors import BenchError

FILES = {
    "mydefenses.py": '''"""A defence of my own. draw is its only source of noise (bench.core.rng.normal(draw.key(), *shape))."""

import io

import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from defenses.base import Defense, Traits


class Jpeg(Defense):
    """Every query is stored as a JPEG and read again."""

    traits = Traits(differentiable=False)  # declared here, proven by test_mine.py

    def __init__(self, model, quality: int):
        super().__init__(model)
        self.quality = quality

    def changed(self, x):
        return torch.stack([self._stored(image.cpu()) for image in x]).to(x)

    def _stored(self, image):
        file = io.BytesIO()
        to_pil_image(image).save(file, "JPEG", quality=self.quality)
        return pil_to_tensor(Image.open(file)).float() / 255

    def forward(self, x, draw):
        return self.model(self.changed(x.detach()))

    def approximate(self, x, draw, kind):
        """For attack/oracle=bpda: through the JPEG as if it were nothing."""
        return self.model(x + (self.changed(x.detach()) - x).detach())
''',
    "mynet.py": '''"""A network of my own: images (B, C, H, W) in [0, 1] -> logits (B, classes)."""

from torch import nn


class MyNet(nn.Module):
    def __init__(self, shape, classes: int = 10, width: int = 64):
        super().__init__()
        inputs = shape[0] * shape[1] * shape[2]
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.body(x))
''',
    "conf/defense/jpeg.yaml": "_target_: mydefenses.Jpeg\nquality: 75\n",
    "conf/model/mynet.yaml": """# recipe: trained here on first use. For a state dict: weights: own, own: {file: my.pt}
version: 1
weights: recipe
build: {_target_: mynet.MyNet, shape: "${dataset.shape}", classes: "${dataset.classes}", width: 64}
""",
    "conf/experiment/mine.yaml": """# @package _global_
defaults: [{override /dataset: digits}, {override /model: mynet}, {override /recipe: standard_digits}]
title: What my defence keeps
samples: {n: 50}
threat: {eps: 1/12}
grid:
  - {defense: [none, jpeg], attack: square, threat.queries: 100}
  - {defense: jpeg, attack: pgd, attack/oracle: bpda}
tables:
  main:
    title: My defence
    rows:
      - {name: Undefended, where: {defense: none}}
      - {name: JPEG, where: {defense: jpeg}}
    columns:
      - {name: clean, metric: clean_acc, where: {attack: square}}
      - {name: Square, metric: robust_acc, where: {attack: square}}
""",
    "test_mine.py": '''"""My defence's traits are what it declares: run by pytest in this folder."""

import torch
from torch import nn

from bench.core.rng import Draw, Stream
from mydefenses import Jpeg

NET = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False)
X = torch.linspace(0, 1, 256).view(4, 1, 8, 8)


def draw(n, number=0):
    return Draw(0, torch.arange(n), torch.full((n,), number), Stream.DEFENCE)


def test_traits():
    defense = Jpeg(NET, quality=75)
    first = defense(X, draw(4))
    assert torch.equal(first, defense(X, draw(4, number=1))), "another draw, another answer: stochastic=True"
    others = torch.cat([X[:2], 1 - X[2:]])  # as many rows: floats depend on the batch's shape, whatever the defence does
    assert torch.equal(first[:2], defense(others, draw(4))[:2]), "the neighbours matter: coupled=True"
    leaf = X.clone().requires_grad_()
    assert not defense(leaf, draw(4)).sum().requires_grad or defense.traits.differentiable
''',
    "README.md": """# {name}

    cd {name}
    defence-bench --config-dir conf +experiment=mine            # the grid of conf/experiment/mine.yaml, then its table
    defence-bench --config-dir conf defense=jpeg attack=square  # one cell; `export BENCH_CONFIG_PATH=conf` saves the option
    pytest                                                      # the defence's traits
""",
}


def main(words: list[str]) -> None:
    if len(words) != 1 or words[0].startswith("-"):
        raise BenchError("init takes the name of a folder to make: defence-bench init mine")
    folder = Path(words[0])
    if folder.exists() and any(folder.iterdir()):
        raise BenchError(f"{folder} is there and not empty; name another folder")
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("{name}", folder.name) if name == "README.md" else text)
    print(f"made {folder}; next: cd {folder} && defence-bench --config-dir conf +experiment=mine")
