"""A model set: one artifact whatever is deployed, members that are models like any other, a user's own member, bad input."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.assemble import networks
from bench.assemble.untrained import untrained
from bench.config import grid, key
from bench.config.specs import CellSpec
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.victim import FixedRows, Ledger
from bench.data.samples import load
from bench.models.sets import ModelSet
from bench.models.small_cnn import small_cnn
from bench.models.split import Split
from bench.models.weights import fresh, load_file
from bench.run import cell
from bench.store.records import Cell
from defenses.deployed import RandomMember

SET = ["model=set_small_cnn", "recipe.epochs=1", "threads=1", "device=cpu", "samples.n=40", "threat.queries=5"]


def network(seed: int, classes: int = 10, side: int = 8) -> Split:
    split = small_cnn(classes, [1, side, side], [0.3], [0.38], width=4, hidden=16)
    fresh(split, seed)
    return split.eval()


def one(*typed: str) -> grid.GridCell:
    (found,) = grid.cells([*SET, *typed])
    return found


def test_the_artifact_does_not_depend_on_the_member_and_the_cell_does() -> None:
    cells = [one(f"model.member={member}") for member in (0, 1, 2)]
    cells.append(one("model.member=random", "defense=random_member"))
    weights = [each.spec.weights_identity() for each in cells]
    assert all(each == weights[0] for each in weights)
    assert len({each.key for each in cells}) == len({each.clean_key for each in cells}) == 4
    assert weights[0]["recipe"] == one().spec.identity()["recipe"]
    assert one("model.members=4").spec.weights_identity() != weights[0]


def test_a_plain_models_weights_keep_their_key() -> None:
    """As committed artifacts have it: the four parts, whole."""
    (plain,) = grid.cells([])
    whole = plain.spec.identity()
    assert plain.spec.weights_identity() == {name: whole[name] for name in ("dataset", "model", "recipe", "seed")}


def test_members_and_random_member_are_cells_like_any_other(tmp_path: Path) -> None:
    """The set is trained once; what a user meets is bit for bit the member that is theirs."""
    places = [f"store={tmp_path}", f"artifacts={tmp_path / 'artifacts'}"]
    cells = [one(*places, f"model.member={member}") for member in (0, 1, 2)]
    cells.append(one(*places, "model.member=random", "defense=random_member"))
    frames = []
    for each in cells:
        assert cell.run(each.config) == each.key
        assert Cell(tmp_path, each.key).complete(40)
        frames.append(Cell(tmp_path, each.clean_key).frame().set_index("sample"))
    (weights,) = (tmp_path / "artifacts" / "weights").glob("*/weights.safetensors")
    assert {name.partition(".")[0] for name in load_file(weights)} == {"0", "1", "2"}
    samples = torch.tensor(frames[0].index.tolist())
    member = RandomMember.member(_deployed(3), Draw(0, samples, samples, Stream.CLEAN)).tolist()
    assert set(member) == {0, 1, 2}
    for sample, i in zip(samples.tolist(), member, strict=True):
        assert list(frames[3].loc[sample, "logits"]) == list(frames[i].loc[sample, "logits"])


def _deployed(n: int, rows: int = 8) -> Any:
    together = ModelSet([network(seed) for seed in range(n)]).deploy("random")
    return RandomMember(FixedRows(together, rows, torch.float32, Ledger(1, torch.device("cpu"))))


def test_a_user_keeps_his_member() -> None:
    """It depends on the seed and the sample, not on the query, its stream or its place in the batch."""
    defense, sample = _deployed(3), torch.arange(3000)
    first = defense.member(Draw(0, sample, torch.zeros_like(sample), Stream.CLEAN))
    later = defense.member(Draw(0, sample.flip(0), torch.full_like(sample, 77), Stream.DEFENCE)).flip(0)
    assert torch.equal(first, later)
    assert not torch.equal(first, defense.member(Draw(1, sample, sample, Stream.CLEAN)))
    assert (first.bincount() / 3000 - 1 / 3).abs().max() < 0.03
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = defense(x, Draw(0, sample[:8], sample[:8], Stream.DEFENCE))
    for row, i in enumerate(first[:8].tolist()):
        assert torch.allclose(logits[row], network(i)(x[row : row + 1])[0], atol=1e-5)


def test_together_is_the_members_mean() -> None:
    members = [network(seed) for seed in range(3)]
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    models = ModelSet(members)
    assert torch.allclose(models.deploy("random")(x), models(x).mean(0), atol=1e-6)
    assert models.deploy(1) is members[1]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["model.members=1"], "model.members=1: a set has at least 2"),
        (["model.member=3"], r"model\.member=3 is no member of this set; it is one of 0\.\.2 or random"),
        (["model.member=mean"], "model.member=mean is no member"),
        (["model.member=random"], "set that, or model.member=0"),
        (["defense=random_member"], "choose a model=set_… with model.member=random"),
        (["recipe.compile=true"], "recipe.compile=true can't train a set"),
        (["model=small_cnn", "recipe=adp"], "trains a set of networks; choose a model"),
    ],
)
def test_bad_input_gets_one_line(typed: list[str], said: str, tmp_path: Path, artifacts: Path) -> None:
    places = [f"store={tmp_path}", f"artifacts={artifacts}"]
    with pytest.raises(BenchError, match=said) as caught:
        cell.run(one(*typed, *places).config)
    assert "\n" not in str(caught.value)


def test_members_that_disagree() -> None:
    with pytest.raises(BenchError, match="the members of a set disagree in classes: 10, 7; correct"):
        ModelSet([network(0), network(1, classes=7)])
    with pytest.raises(BenchError, match=r"disagree in shape: \(1, 8, 8\), \(1, 12, 12\)"):
        ModelSet([network(0), network(1, side=12)])
    config = one().config
    node = config["model"]["build"]
    mixed = config | {"model": config["model"] | {"members": 2, "build": [node, node | {"width": 3}]}}

    def built(config: Any) -> Any:
        return untrained(CellSpec.parse(config))

    assert len(built(mixed)) == 2
    with pytest.raises(BenchError, match="disagree in classes"):
        built(mixed | {"model": mixed["model"] | {"build": [node, node | {"classes": 3}]}})
    with pytest.raises(BenchError, match=r"model\.members=3, but model\.build lists 2"):
        built(mixed | {"model": mixed["model"] | {"members": 3}})


GROWN = [
    "recipe=disjoint_2_plus_1_mnist_small",
    "recipe.frozen.recipe.epochs=1",
    "recipe.images=200",
    "recipe.batch=50",
]


def test_a_set_grows_from_a_trained_smaller_one(tmp_path: Path) -> None:
    """Its first members are bit for bit those of the artifact of the smaller set, which is trained on first use."""
    small = ["recipe.frozen.recipe.images=200", "recipe.frozen.recipe.batch=50", f"artifacts={tmp_path}"]
    found = one(*GROWN, *small)
    test = load(found.spec.dataset, found.spec.samples, torch.device("cpu"))
    networks.deployed(found.spec, test, found.runtime.artifacts)
    first = one("recipe=disjoint_mnist_small", "recipe.images=200", "recipe.batch=50", "model.members=2")
    weights = [
        load_file(tmp_path / "weights" / key.of(each.spec.weights_identity()) / "weights.safetensors")
        for each in (found, first)
    ]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
    new = {name for name in weights[0] if name not in weights[1]}
    assert new and all(name.startswith("2.") for name in new)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["model.members=2"], r"recipe\.frozen\.members=2 must lie between 2 and model\.members=2 - 1"),
        (["model=small_cnn"], r"recipe\.frozen adds networks to a trained set; choose a model whose weights are a set"),
    ],
)
def test_a_set_that_cannot_grow_says_so(typed: list[str], said: str, tmp_path: Path) -> None:
    small = ["recipe.frozen.recipe.images=100", "recipe.frozen.recipe.batch=50", f"artifacts={tmp_path}"]
    found = one(*GROWN, *small, *typed)
    test = load(found.spec.dataset, found.spec.samples, torch.device("cpu"))
    with pytest.raises(BenchError, match=said):
        networks.deployed(found.spec, test, found.runtime.artifacts)
