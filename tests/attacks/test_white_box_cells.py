"""White-box and replayed attacks as cells on digits: the same records for any slots, exact ledgers, one line errors."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from bench.assemble.crafted import Crafted
from bench.config.specs import CellSpec
from bench.core.errors import BenchError
from bench.run import cell
from bench.store.records import Cell
from tests.support import shipped

CASES = [
    ["attack=pgd"],
    ["attack=pgd", "attack/oracle=eot", "attack.oracle.samples=3", "defense=rnd", "attack.early_stop=false"],
    ["attack=pgd", "attack.restarts=3", "threat.norm=l2", "threat.eps=1/2"],
    ["attack=pgd", "attack/oracle=bpda", "defense=gcm"],
    ["attack=pgd", "attack/oracle=diverse"],
    ["attack=mifgsm", "threat.goal=least_likely", "threat.eps=1/3"],
    ["attack=rfgsm"],
    ["attack=cw", "threat.norm=l2", "threat.eps=1/2", "attack.searches=3", "attack.steps=20", "attack.c=1"],
    ["attack=ead", "threat.norm=l1", "threat.eps=3", "attack.searches=2", "attack.steps=20", "attack.c=1"],
    ["attack=transfer_undefended", "defense=rnd"],
    [
        "attack=replay_diverse",
        "model@attack.sources.a.model=small_cnn",
        "recipe@attack.sources.a.recipe=standard_digits",
    ],
]


def frame_of(config: dict[str, Any]) -> pd.DataFrame:
    return Cell(Path(config["store"]), cell.run(config)).frame().drop(columns=["seconds"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[:2]))
def test_records_do_not_depend_on_slots_and_ledgers_are_exact(
    case: list[str],
    compose: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = 0

    def hook(_module: Any, inputs: tuple[torch.Tensor, ...], _output: Any) -> None:
        nonlocal seen
        seen += len(inputs[0])

    original = cell.build_victim

    def hooked(spec: Any, network: Any, *rest: Any) -> Any:
        if spec.attack.sources is None:  # crafting is the attacker's own
            network.features.register_forward_hook(hook)
        return original(spec, network, *rest)

    monkeypatch.setattr(cell, "build_victim", hooked)
    monkeypatch.setattr("bench.run.cost.of", lambda *_: None)
    common = ["samples.n=40", "numerics.rows=8", *case]
    config = compose(*common, "slots=64")
    reference = frame_of(config)
    assert reference["fooled"].sum() > 0 and reference["queries"].fillna(0).sum() == 0
    spec = CellSpec.parse(config)
    ledgers = [Cell(Path(config["store"]), each).ledger() for each in (spec.key, spec.clean_key)]
    if "sources" not in config["attack"]:
        assert sum(sum(each.values()) for each in ledgers) == seen
        assert ledgers[0]["white_box"] == reference["passes_fwd"].sum() > 0
        assert (reference["grad_nonfinite"].dropna() == 0).all()
    again = frame_of(compose(*common, "slots=24", store=tmp_path / "other"))
    pd.testing.assert_frame_equal(reference, again, check_exact=True)
    grown = frame_of(compose(*[o.replace("n=40", "n=56") for o in common], "slots=64", store=Path(config["store"])))
    pd.testing.assert_frame_equal(reference, grown[grown["position"] < 40].reset_index(drop=True), check_exact=True)


def test_a_replay_of_the_same_network_is_its_white_box_attack(compose: Any) -> None:
    """Crafted once: a second victim finds the images, and the undefended one falls to them as to the attack itself."""
    settings = ["samples.n=70", "attack.craft.steps=20", "attack.craft.step=0.1"]
    bare = frame_of(compose("attack=transfer_undefended", *settings))
    direct = frame_of(compose("attack=transfer_pgd", "samples.n=70", "attack.steps=20", "attack.step=0.1"))
    assert bare["fooled"].equals(direct["fooled"]) and 0 < bare["fooled"].sum() < 70
    noisy = frame_of(compose("attack=transfer_undefended", "defense=rnd", *settings))
    assert (noisy["linf"] - bare["linf"]).abs().max() == 0  # the same images
    assert (
        noisy["re_evaluation_success"][noisy["clean"]].between(0, 1).all()
    )  # of the others, too: one answer's luck goes both ways
    assert noisy["re_evaluation_success"][noisy["clean"] & ~noisy["fooled"]].max() > 0


def test_blocks_are_crafted_in_whole_calls_and_alike_however_many_are_missing(
    compose: Any, tmp_path: Path, artifacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    craft = Crafted._craft

    def counted(self: Crafted, numbers: list[int]) -> list[Tensor]:
        found = craft(self, numbers)
        made.append(len(found))
        return found

    monkeypatch.setattr(Crafted, "_craft", counted)
    frames = {}
    for name, sizes in (("at once", (190,)), ("one after the other", (64, 190))):
        shipped.plant(tmp_path / name)
        for n in sizes:
            words = ["attack=transfer_undefended", "attack.craft.steps=4", "numerics.rows=128", f"samples.n={n}"]
            frames[name] = frame_of(compose(*words, f"artifacts={tmp_path / name}", f"store={tmp_path / name / 's'}"))
    assert made == [2, 1, 1, 2]
    pd.testing.assert_frame_equal(*frames.values(), check_exact=True)


def test_an_engines_chunks_are_those_of_the_order(compose: Any) -> None:
    """What AutoAttack finds depends on who else is in its batch: the same in one run, in two, and in shards."""
    engine = ["attack=autoattack", "attack.engine=custom", "attack.attacks=[apgd-ce]", "attack.chunk=8"]
    common = [*engine, "numerics.rows=8", "threat.eps=1/16"]
    whole = frame_of(compose(*common, "samples.n=16"))
    store = compose()["store"].replace("store", "other") + "-parts"
    frame_of(compose(*common, "samples.n=8", f"store={store}"))
    grown = frame_of(compose(*common, "samples.n=16", f"store={store}"))
    frame_of(compose(*common, "samples.n=16", f"store={store}2", "shard=2/2"))
    shards = frame_of(compose(*common, "samples.n=16", f"store={store}2", "shard=1/2"))
    assert whole["fooled"].sum() > 0
    assert whole["passes_fwd"].isna().all()  # the engine's passes belong to no sample, its gradients to a borrowed one
    assert whole["grad_zero"].notna().any() and (whole["grad_nonfinite"].dropna() == 0).all()
    pd.testing.assert_frame_equal(whole, grown, check_exact=True)
    pd.testing.assert_frame_equal(whole, shards, check_exact=True)
    with pytest.raises(BenchError, match=r"samples\.n=12 cuts a chunk"):
        cell.run(compose(*common, "samples.n=12"))


def test_a_source_has_a_seed_of_its_own(compose: Any) -> None:
    own = ["model@attack.sources.a.model=small_cnn", "recipe@attack.sources.a.recipe=standard_digits", "samples.n=24"]
    craft = ["attack.sources.a.recipe.epochs=2", "attack.craft.steps=5"]
    other, same = (frame_of(compose("attack=replay", *own, *craft, f"attack.sources.a.seed={s}")) for s in (1, 0))
    for seed in (0, 1):  # never the victim's
        assert compose("attack=replay", *own, f"seed={seed}")["attack"]["sources"]["a"]["seed"] == seed + 1
    assert (other["l2"][other["clean"]] != same["l2"][same["clean"]]).any()


def test_a_trained_source_names_its_recipe(compose: Any) -> None:
    """The victim's would do for its training, but is in no key of the images."""
    config = compose("attack=transfer_undefended", "samples.n=8")
    del config["attack"]["sources"]["a"]["recipe"]
    with pytest.raises(BenchError, match="is trained, so it needs a recipe of its own"):
        cell.run(config)


def test_diverse_images_come_of_the_diverse_oracle(compose: Any) -> None:
    """The same momentum PGD on the same network as in replay, but other gradients."""
    own = ["model@attack.sources.a.model=small_cnn", "recipe@attack.sources.a.recipe=standard_digits", "samples.n=24"]
    plain, diverse = (compose(f"attack={name}", *own) for name in ("replay", "replay_diverse"))
    oracles = [config["attack"]["craft"].pop("oracle")["_target_"] for config in (plain, diverse)]
    assert oracles == ["attacks.oracles.gradients.Exact", "attacks.oracles.diversity.TranslationInvariant"]
    assert plain["attack"] == diverse["attack"]


@pytest.mark.parametrize(
    ("typed", "word"),
    [
        (["attack=pgd", "defense=unig", "defense.group.size=8"], "use attack/oracle=bpda"),
        (["attack=pgd", "attack/oracle=eot", "attack.oracle.samples=0"], "samples=0"),
        (["attack=pgd", "attack/oracle=bpda", "attack.oracle.kind=tanh"], "no backward pass 'tanh'"),
        (["attack=rfgsm", "threat.norm=l1"], "R+FGSM has no threat.norm=l1"),
        (["attack=pgd", "queries_per_image=5"], "attack/oracle=eot"),
        (["attack=transfer_undefended", "threat.goal=runner_up"], "replayed images know untargeted and random"),
        (["attack=transfer_undefended", "attack.labels=mine"], "attack.labels=mine"),
        (["attack=gmsa"], "adapts nothing"),
    ],
)
def test_bad_input_gets_one_line(typed: list[str], word: str, compose: Any) -> None:
    with pytest.raises(BenchError) as caught:
        cell.run(compose("samples.n=8", "numerics.rows=8", *typed))
    assert word in str(caught.value) and "\n" not in str(caught.value)


def test_replayed_flows_are_those_of_the_source_and_fool_it_most(compose: Any) -> None:
    """Flow PGD on one network, asked of that one, where it is the white-box attack, and of another."""
    flow = ["samples.n=60", "threat.norm=flow_linf", "threat.eps=1"]
    own = ["model@attack.sources.a.model=small_cnn", "recipe@attack.sources.a.recipe=standard_digits"]
    own.append("attack.sources.a.recipe.epochs=5")  # as the victim's
    steps = ["steps=20", "step=0.1"]
    replay = ["attack=replay_flow", "attack.sources.a.seed=0", *own, *flow, *(f"attack.craft.{each}" for each in steps)]
    source = frame_of(compose(*replay))
    white = ["attack=flow_pgd", "attack.loss=margin", "attack.early_stop=false", *flow]
    direct = frame_of(compose(*white, *(f"attack.{each}" for each in steps)))
    assert source["fooled"].equals(direct["fooled"]) and source["l2"].equals(direct["l2"])
    other = frame_of(compose(*replay, "recipe.epochs=2"))
    attacked = source["clean"] & other["clean"]
    assert other["l2"][attacked].equals(source["l2"][attacked])  # the same images
    assert 0 < other["fooled"].sum() < source["fooled"].sum()


def test_budgets_and_feedback_are_no_part_of_a_white_box_cell(compose: Any) -> None:
    keys = {CellSpec.parse(compose("attack=pgd", f"threat.queries={q}")).key for q in (10, 20)}
    assert len(keys) == 1
    assert len({CellSpec.parse(compose("attack=pgd", f"attack/oracle={o}")).key for o in ("exact", "bpda", "eot")}) == 3


def test_non_finite_gradients_are_counted_not_swallowed(compose: Any) -> None:
    """GCM after the image and every convolution: factors of 1e12 each overflow float32."""
    frame = frame_of(compose("attack=fgsm", "defense=gcm_all", "defense.w=1e30", "samples.n=16", "numerics.rows=8"))
    assert (frame["grad_nonfinite"].dropna() > 0).any()
