"""Every YAML composes; every attack and defence can be made from its YAML; wrong words get one line with the right one."""

from pathlib import Path

import pytest
import torch
import yaml

from attacks import norms
from bench.assemble.attack import build_attack, oracle_of
from bench.assemble.networks import build_victim
from bench.assemble.untrained import untrained
from bench.config import grid, overrides
from bench.core import threat
from bench.core.errors import BenchError
from bench.data.samples import load
from tests.support.methods import SETTINGS

DIGITS = grid.cells([])[0].spec
CONF = Path(__file__).resolve().parents[2] / "conf"


OF_ANY_NAME = {"timm", "torchvision", "robustbench", "hf"}


DISTILLED = ("model", "small_cnn"), ("recipe", "standard_digits")


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("group", ["dataset", "model", "recipe", "defense", "threat", "attack", "numerics"])
def test_every_yaml_of_a_group_composes(group: str) -> None:
    assert names(group)
    for name in names(group):
        named = ["model.name=x"] if group == "model" and name in OF_ANY_NAME else []
        if name.startswith("distilled"):  # of whose f_a, the attack says that uses them
            named = [f"+{each}@recipe.needs.f_a.{each}=" + choice for each, choice in DISTILLED]
        if name.startswith("answers"):
            named = [f"+{each}@recipe.needs.victim.{each}=" + choice for each, choice in DISTILLED]
        (cell,) = grid.cells([f"{group}={name}", *named])
        assert cell.choices[group] == name and len(cell.key) == 16
        if group in ("dataset", "model", "recipe"):
            assert cell.config[group]["version"] == 1


@pytest.mark.parametrize("name", [name for name in names("attack") if name != "none"])
def test_every_attack_is_made_from_its_yaml(name: str, tmp_path: Path) -> None:
    (cell,) = grid.cells([f"attack={name}", *SETTINGS.get(f"attack={name}", [])])
    network = untrained(cell.spec)
    node = cell.config["attack"]
    test = load(DIGITS.dataset, DIGITS.samples, torch.device("cpu"))
    made = build_attack(cell.spec, network, test, tmp_path)
    assert node["version"] >= 1
    if cell.spec.attack.queries:
        assert made.feedback in ("logits", "label")
        assert "needs" in node or made == build_attack(cell.spec, network, test, tmp_path)
    elif "oracle" in node and name not in (
        "gmsa",
        "eot_image",
        "eot_start",
    ):  # theirs need a defence that adapts, or moves images
        victim = build_victim(cell.spec, network, test, tmp_path)
        assert oracle_of(made, victim) is not None and (made.chunk is None or made.chunk > 0)


def test_eps_is_hashed_in_lowest_terms_and_paths_not_at_all() -> None:
    def keyed(*typed: str) -> str:
        return grid.cells(list(typed))[0].key

    assert (
        keyed("threat.eps=8/255") == keyed("threat.eps=16/510") == keyed("dataset.root=/nowhere") == keyed("slots=128")
    )
    assert keyed("samples=1000") == keyed("samples.n=20") == keyed("shard=2/8") == keyed("device=cpu")
    different = [
        "threat.eps=4/255", "threat.queries=10", "seed=1", "samples.seed=1", "numerics.rows=8", "defense=rnd", "re_evaluations=3",
        "recipe.epochs=2", "attack.p_init=0.1", "dataset=mnist", "model.build.width=8", "samples.order=first",
    ]  # fmt: skip
    keys = [keyed(*([] if typed == "" else [typed])) for typed in ["", *different]]
    assert len(set(keys)) == len(keys)


def test_a_ready_models_key_has_no_recipe_and_a_clean_cell_no_threat() -> None:
    def cell(*typed: str) -> grid.GridCell:
        return grid.cells(list(typed))[0]

    ready = ["model=vgg_fb_adv", "dataset=cifar10_jpeg"]
    assert cell(*ready).key == cell(*ready, "recipe=standard").key
    assert (
        cell("threat.queries=7").clean_key
        == cell("threat.eps=1/9").clean_key
        == cell("attack=none", "re_evaluations=2").key
    )
    assert cell("attack=none").spec.identity()["threat"] is None


LINES = [
    {"defense": ["none", "rnd"], "threat.queries": [1, 2]},
    {"defense": ["unig", "unig_noise"], "defense.group.size": 100, "threat.queries": [1, 2]},
]


def expand(*typed: str) -> list[list[str]]:
    cells = grid._expand(grid._lines({"grid": LINES}), overrides.typed_words(typed))
    return [[word.text for word in words] for words in cells]


def test_a_grid_is_lines_of_products() -> None:
    assert len(expand()) == 8 and ["defense=rnd", "threat.queries=2"] in expand()


def test_typed_values_pick_lines_replace_or_multiply() -> None:
    assert expand("defense=rnd") == [["defense=rnd", "threat.queries=1"], ["defense=rnd", "threat.queries=2"]]
    assert len(expand("defense=none,unig")) == 4
    foreign = expand("defense=pni")  # in no line: replaces the axis, and the size of UniG's group no longer applies
    assert ["defense=pni", "threat.queries=1"] in foreign and not any("group" in " ".join(each) for each in foreign)
    assert len(expand("seed=0,1")) == 16
    assert all(each[1] == "threat.queries=9" or each[2] == "threat.queries=9" for each in expand("threat.queries=9"))


def test_a_group_at_another_place_is_an_axis_of_its_own() -> None:
    """`attack@attack.craft=fgsm` is no typed `attack`, and goes with the attack that it refines."""
    cells = grid.cells(["attack=replay", "attack@attack.craft=fgsm,pgd", "model@attack.sources.a.model=small_cnn"])
    assert [cell.choices["attack"] for cell in cells] == ["replay"] * 2 and len({cell.key for cell in cells}) == 2
    (line,) = grid._lines({"grid": [{"attack": "replay", "attack@attack.craft": "fgsm", "attack/oracle": "bpda"}]})
    assert list(grid._expand([line], overrides.typed_words(["attack=square"]))) == [
        (overrides.Word("attack=square", "", 0),)
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), ("off", "'off'"), ("8/255", "'8/255'"), (0.5, "0.5"), ("012", "'012'"),
        ("a=b", "'a=b'"), ("~x", "'~x'"), ("it's", "'it\\'s'"), ([1, "a"], "[1,a]"), ({"k": "v"}, "{k:v}"),
    ],
)  # fmt: skip
def test_quoting_survives_hydras_grammar(value: object, text: str) -> None:
    assert overrides.quoted(value) == text
    ((word,),) = overrides.typed_words([f"+x={text}"])
    assert word.value == value


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("attack=sqare", "attack=sqare is unknown; did you mean 'square'"),
        ("model=smal_cnn", "did you mean 'small_cnn'"),
        ("defence=rnd", "did you mean 'defense'"),
        ("threat.querys=5", "did you mean 'threat.queries'"),
        ("attack.p_int=0.3", "did you mean 'attack.p_init'"),
        ("+experiment=digits_sqare", "did you mean 'digits_square'"),
        ("threat.eps=8", "eps=8/255"),
        ("threat.eps=0", "must be positive"),
        ("threat.eps=x", "write a fraction"),
        ("threat.queries=0", "threat.queries=0 must be"),
        ("threat.norm=linff", "did you mean 'linf'"),
        ("samples.order=perclass", "did you mean 'per_class'"),
        ("samples.n=0", "samples.n=0 must be"),
        ("samples=abc", "samples=abc must be"),
        ("seed=1.5", "seed=1.5 must be"),
        ("re_evaluations=0", "re_evaluations=0 must be"),
        ("experiment=digits_square", "write +experiment="),
        ("attack=[", "attack"),
    ],
)
def test_wrong_words_get_one_line(typed: str, line: str) -> None:
    with pytest.raises(BenchError) as caught:
        grid.cells([typed])
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_threat_contains_and_projects() -> None:
    x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for norm, eps in (("linf", "8/255"), ("l2", "1/2")):
        limits = threat.read({"norm": norm, "eps": eps, "queries": 1, "feedback": "logits", "goal": "untargeted"})
        far = (x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
        assert not limits.contains(x, far).any()
        assert (
            limits.contains(x, norms.project(x, far, limits.norm, limits.radius)).all() and limits.contains(x, x).all()
        )
        assert not limits.contains(x, x + 1e-3 * (x == x.amax()) + 1).any()
    assert threat.canonical(limits)["eps"] == "1/2"


def test_no_line_of_the_configs_is_longer_than_130() -> None:
    lines = [(path.name, line) for path in CONF.rglob("*.yaml") for line in path.read_text().splitlines()]
    assert len(lines) > 1000 and [line for line in lines if len(line[1]) > 130] == []


def _inherits(path: Path) -> list[Path]:
    """The YAMLs of its own group that a YAML begins with."""
    entries = (yaml.safe_load(path.read_text()) or {}).get("defaults", [])
    ours = [path.with_name(f"{each}.yaml") for each in entries if isinstance(each, str)]
    return [parent for parent in ours if parent.exists()]  # not `_self_`, nor what another package brings


def _chain(path: Path) -> list[str]:
    longest = max((_chain(parent) for parent in _inherits(path)), key=len, default=[])
    return [path.stem, *longest]


def test_no_chain_of_defaults_is_longer_than_three() -> None:
    long = [" <- ".join(_chain(path)) for path in grid.CONF.rglob("*.yaml") if len(_chain(path)) > 3]
    assert not long, long
