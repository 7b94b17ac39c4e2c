"""scripts/: the numbers behind FGR's distances and loss surfaces, and behind the t-SNE of a set's gradients."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bench.assemble import networks
from bench.assemble.untrained import untrained
from bench.config.grid import GridCell
from bench.config.runtime import RuntimeSpec
from bench.config.specs import CellSpec
from bench.core.errors import BenchError
from bench.data.samples import load
from bench.models.sets import ModelSet
from scripts import flow_distances, flow_plane, gradient_tsne, loss_surface
from scripts.flow_plane import Plane, Scene
from tests.support.cells import Compose
from tests.support.networks import network

pytest.importorskip("matplotlib")
CPU = torch.device("cpu")
PLACES = flow_plane.axis(5, 2.0)
FLOWS = ["attack=flow_pgd", "threat.norm=flow_linf", "threat.eps=1", "attack.steps=5", "attack.step=0.2"]


def scene(compose: Compose, *typed: str) -> Scene:
    """The fixed network of the golden records; its labels are its own answers, so it is right everywhere."""
    config = compose(*typed)
    spec, runtime = CellSpec.parse(config), RuntimeSpec.parse(config)
    test, net = load(spec.dataset, spec.samples, CPU), network()
    test.source.labels.copy_(net(test.images(torch.argsort(test.order).tolist())).argmax(1))
    return Scene(GridCell((), config, {}, spec, runtime, spec.key, spec.clean_key), net, test)


@pytest.fixture
def plane(compose: Compose) -> Plane:
    return flow_plane.span(scene(compose, *FLOWS), list(range(6)))


def test_the_two_directions_are_equally_long_and_the_first_is_the_attacks(compose: Compose, plane: Plane) -> None:
    assert torch.allclose(plane.attack.flatten(1).norm(dim=1), plane.random.flatten(1).norm(dim=1))
    assert 0 < float(plane.attack.abs().max()) <= 1
    again = flow_plane.span(scene(compose, *FLOWS), list(range(4)))
    assert torch.equal(again.random, plane.random[:4])  # a function of the sample, and of no neighbour
    fooled = (network()(plane.image(1, 0)).argmax(1) != plane.y).sum()
    assert fooled > (network()(plane.image(0, 1)).argmax(1) != plane.y).sum()
    free = flow_plane.span(scene(compose, "attack=stadv", "threat.norm=none", "attack.steps=5"), [0, 1])
    assert free.attack.shape == (2, 8, 8, 2)


def test_distances_are_zero_at_the_image_and_a_cone_in_the_flow(plane: Plane) -> None:
    found = flow_distances.distances(plane, PLACES)
    pixels, flow = found["||x' - x||"], found["||v - v0||"]
    assert pixels.shape == flow.shape == (5, 5) and pixels[2, 2] == flow[2, 2] == 0
    assert (np.delete(pixels.ravel(), 12) > 0).all()
    assert np.allclose(flow, flow[::-1, ::-1])  # as far on either side
    assert np.allclose(flow[2], np.abs(PLACES) * plane.attack.flatten(1).norm(dim=1).mean().item())
    moved = plane.image(PLACES[4], PLACES[1]) - plane.x  # a across, b upwards
    assert pixels[1, 4] == pytest.approx(moved.flatten(1).norm(dim=1).mean().item())


def test_the_loss_surface_is_the_clean_loss_at_the_image_and_higher_at_the_attacks_end(plane: Plane) -> None:
    found = loss_surface.losses(network(), plane, PLACES)
    clean = F.cross_entropy(network()(plane.x), plane.y).item()
    ends = F.cross_entropy(network()(plane.image(1, 0)), plane.y).item()
    assert found[2, 2] == pytest.approx(clean) and found[2, 3] == pytest.approx(ends)
    assert found[2, 3] > max(found[2, 2], found[3, 2])  # a random flow of that length does less


def test_both_scripts_write_their_figure_and_numbers(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scene(compose, *FLOWS)
    monkeypatch.setattr(flow_plane, "scenes", lambda typed: {"one": here})
    for script in (flow_distances, loss_surface):
        typed = ["images=4", "points=5", "reach=1"]
        first, again = (script.main([*typed, f"out={tmp_path / name / 'plane'}"]) for name in ("a", "b"))
        assert [path.suffix for path in first] == [".svg", ".png", ".csv"]
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
        rows = list(csv.DictReader(first[2].open()))
        assert len(rows) == (50 if script is flow_distances else 25)
        assert (rows[0]["attack"], rows[0]["random"]) == ("-1", "-1")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["points=4"], "points=4 must be odd"),
        (["reach=0"], r"reach=0\.0 positive"),
        (["points=x"], "images and points are whole numbers"),
        (["images=4000"], "images=4000, but only"),
        (["attack=pgd", "threat=linf_8"], "Pgd has no flow to show; set attack=flow_pgd or attack=stadv"),
    ],
)
def test_bad_input_gets_one_line(
    typed: list[str], said: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scene(compose, *(each for each in typed if each.startswith(("attack", "threat"))))
    monkeypatch.setattr(flow_plane, "scenes", lambda typed: {"one": here})
    with pytest.raises(BenchError, match=said):
        loss_surface.main([*typed, f"out={tmp_path / 'plane'}"])


def test_gradient_signs_are_autograds_and_the_tsne_tells_members_apart(compose: Compose) -> None:
    test = load(CellSpec.parse(compose()).dataset, CellSpec.parse(compose()).samples, CPU)
    x, y = test.images(list(range(12))), test.labels(list(range(12)))
    leaf = x[3:4].clone().requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(network()(leaf), y[3:4]), leaf)
    seen = gradient_tsne.signs(network(), x, y)
    assert seen.shape == (12, 64) and np.array_equal(seen[3], slope.sign().flatten().numpy())
    other = network()
    with torch.no_grad():
        other.head.weight.neg_()
    found = gradient_tsne.points([network(), other], x, y, seed=0)
    assert found.shape == (2, 12, 2) and np.array_equal(found, gradient_tsne.points([network(), other], x, y, seed=0))
    lines = gradient_tsne.coordinates({"two": found}, list(range(12)), y.tolist()).splitlines()
    assert (
        lines[0] == "set,member,sample,label,x,y" and len(lines) == 25 and lines[13].startswith(f"two,1,0,{int(y[0])},")
    )


def test_a_sets_gradients_are_drawn_from_its_weights(compose: Compose, artifacts: Path, tmp_path: Path) -> None:
    typed = ["model=set_small_cnn", "model.members=2", "recipe=standard_digits", "recipe.epochs=1"]
    common = [*typed, f"artifacts={artifacts}", "device=cpu", "threads=1"]
    paths = gradient_tsne.main([*common, "images=10", f"out={tmp_path / 'signs'}"])
    assert [path.suffix for path in paths] == [".svg", ".png", ".csv"]
    assert len(paths[2].read_text().splitlines()) == 1 + 2 * 10
    config = compose(*typed)
    spec = CellSpec.parse(config)
    members = gradient_tsne.members(config, CPU, load(spec.dataset, spec.samples, CPU))
    made = untrained(spec)
    assert isinstance(made, ModelSet) and len(members) == len(made.members) == 2
    one = networks.deployed(spec, load(spec.dataset, spec.samples, CPU), Path(config["artifacts"]))[0]
    assert torch.equal(members[0].head.weight, one.head.weight)
    assert not torch.equal(members[0].head.weight, members[1].head.weight)
    with pytest.raises(BenchError, match="between the members of a set"):
        gradient_tsne.main(["images=10", "device=cpu", f"out={tmp_path / 'none'}"])
    with pytest.raises(BenchError, match="images=5000 must lie between 2 and"):
        gradient_tsne.main([*common, "images=5000"])
