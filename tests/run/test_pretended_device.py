"""Whole cells on a make-believe CUDA device that computes (tests/support/pretended.py): every attack, defence and recipe of conf/
records, or learns, what it does on the CPU, to the bit. A new YAML needs no entry here unless it can't stand alone on digits."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.assemble import networks
from bench.config import grid, places
from bench.config.network_specs import NetworkSpec
from bench.config.specs import CellSpec
from bench.data.samples import load
from tests.defenses import test_every_recipe
from tests.run.test_on_device import typed
from tests.support import caches
from tests.support.cells import Compose, frame_of, same
from tests.support.pretended import CPU, CUDA, pretended

COMMON = ["samples.n=16", "threat.queries=40", "numerics.rows=8"]
LIBRARIES = ("advlib", "art", "foolbox", "torchattacks")  # of other people: tests/attacks/test_foreign.py
SET = ["model=set_small_cnn", "recipe=standard_set_mnist_small"]
TRANSFORMED = [
    "defense=transformation", "recipe=transformation_digits", "model@f_b.model=small_cnn", "recipe@f_b.recipe=standard_digits",
]  # fmt: skip
SOURCE = ["model@attack.sources.a.model=small_cnn", "recipe@attack.sources.a.recipe=standard_digits"]
MORE = {
    "attack=gmsa": ["defense=dent", "defense.group.size=8"],
    "attack=eot_image": TRANSFORMED,
    "attack=eot_start": TRANSFORMED,
    "attack=replay": SOURCE,
    "attack=replay_diverse": SOURCE,
    "attack=replay_flow": ["threat.norm=flow_linf", "threat.eps=1"],
    "attack=transfer": ["threat.queries=2"],
    "attack=transfer_undefended_apgd": ["attack.craft.steps=4", "attack.craft.targets=2"],
    "defense=pni": ["model=pni_small_cnn", "recipe=pni_digits"],
    "defense=transformation": TRANSFORMED[1:],
    "defense=transformation_fixed": TRANSFORMED[1:],
    "defense=reparameterised": TRANSFORMED[1:],
    "defense=random_member": [*SET, "model.member=random"],
}
# what test_on_device.py's pretended tensors, which compute nothing, can't follow: engines, images of other cells, a host's memory
HERE = (
    "defense=",
    "attack=autoattack",
    "attack=apgd",
    "attack=square",
    "attack=transfer",
    "attack=replay",
    "attack=redrawn",
)
DEAR = ("attack=replay_", "attack=autoattack_rand", "attack=transfer_undefended_")  # settings of others here


def _marks(choice: str) -> pytest.MarkDecorator:
    return pytest.mark.slow if choice.startswith(HERE) and not choice.startswith(DEAR) else pytest.mark.dear


CHOICES = [
    pytest.param(choice, marks=_marks(choice))
    for group in ("attack", "defense")
    for name in places.choices(group)
    if name not in ("none", *LIBRARIES)
    for choice in [f"{group}={name}"]
]


def small(config: dict[str, Any]) -> dict[str, Any]:
    """Whatever it trains is trained for one epoch of 64 images."""
    network = grid.base(["model=small_cnn"])["model"]
    kept = {name: config[name] for name in ("recipe", "attack", "defense") if config.get(name)}
    return config | {name: test_every_recipe.shrunk(node, network) for name, node in kept.items()}


def test_it_refuses_what_a_device_refuses() -> None:
    with pretended():
        here, there = torch.ones(3), torch.ones(3, device="cuda")
        assert (there + 1.0).device == (there * torch.tensor(2.0)).device == here.to("cuda").device == CUDA
        assert there.cpu().device == there.to("cpu", torch.float64).device == torch.zeros_like(here).device == CPU
        with pytest.raises(RuntimeError, match="cuda:0 and cpu meet"):
            _ = there + here
        with pytest.raises(RuntimeError, match="cuda:0 and cpu meet"):
            torch.cat([there, here])
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        with pytest.raises(RuntimeError, match="generator"):
            torch.rand(3, device="cuda", generator=torch.Generator())
        moved = here.to("cuda")
        moved += 1  # a copy, as over a bus
        assert here.tolist() == [1, 1, 1] and moved.tolist() == [2, 2, 2]
        network = torch.nn.Linear(3, 1).to("cuda")
        assert network.weight.device == CUDA and isinstance(network.weight, torch.nn.Parameter)
        network(there[None]).sum().backward()
        assert network.weight.grad is not None and network.weight.grad.device == CUDA
    assert torch.ones(1).device == CPU


@pytest.mark.parametrize("choice", CHOICES)
def test_a_cell_records_what_it_does_on_the_cpu(choice: str, compose: Compose, tmp_path: Path) -> None:
    words = [*typed(*choice.split("=")), *COMMON, *MORE.get(choice, [])]
    words = list({word.partition("=")[0]: word for word in words}.values())
    reference = frame_of(small(compose(*words)))
    with pretended():
        caches.forget()
        found = frame_of(
            small(compose(*words, "device=cuda", store=tmp_path / "cuda")) | {"artifacts": str(tmp_path / "a")}
        )
    caches.forget()
    same(reference, found)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", places.choices("recipe"))
def test_a_recipe_learns_what_it_does_on_the_cpu(recipe: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    typed = [f"recipe={recipe}", *test_every_recipe.words(recipe), "threads=1"]
    (cell,) = grid.cells([*typed, "device=cpu"])
    spec = CellSpec.parse(small(cell.config))

    def learned(device: torch.device, folder: Path) -> dict[str, torch.Tensor]:
        test = load(spec.dataset, spec.samples, device)
        if spec.model.weights == "image":
            other = NetworkSpec(model=spec.model, recipe=spec.recipe)
            made, shape = networks.image_to_image(spec, other, "model", test, folder), (1, 8, 8)
        else:
            made, shape = networks.trained(spec, test, folder), (10,)
        state = {name: value.cpu() for name, value in made.state_dict().items()}
        assert made.eval().to(device)(test.images([0, 1])).shape[-len(shape) :] == shape
        return state

    reference = learned(CPU, tmp_path / "cpu")
    with pretended():
        caches.forget()
        found = learned(CUDA, tmp_path / "cuda")
    caches.forget()
    assert found.keys() == reference.keys() and all(each.isfinite().all() for each in found.values())
    assert [name for name, value in found.items() if not torch.equal(value, reference[name])] == []
