"""DENT: its optimisers against torch's and a slow loop, its coupling, its ledger, its effect."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.config import grid
from bench.config.specs import CellSpec
from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.core.victim import FixedRows, Ledger, Victim, check_rows
from bench.models.split import Split
from bench.run import cell
from bench.store.records import Cell
from defenses.dent import Dent, adam, adamod

PAPER = {"statistics": "batch", "loss": "entropy", "optimizer": "adam", "lr": 0.001, "betas": [0.9, 0.999, 0.0]}
OFFICIAL = {"statistics": "running", "loss": "shot", "optimizer": "adamod", "lr": 0.006, "betas": [0.99, 0.999, 0.6]}
ALONE = PAPER | {"statistics": "running"}


def network() -> Split:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(
            *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()),
        )
        model = Split(body, nn.Linear(128, 5), (3, 8, 8))
        model.train()
        for _ in range(5):
            model(torch.rand(32, 3, 8, 8))
        with torch.no_grad():
            model.head.weight *= 5  # pyright: ignore[reportOperatorIssue]
    return model.eval().requires_grad_(False)


def dent(settings: dict[str, Any], rows: int = 16, size: int = 8, steps: int = 6, **changes: Any) -> Dent:
    fixed = FixedRows(network(), rows, torch.float32, Ledger(100, torch.device("cpu")))
    return Dent(fixed, steps=steps, group={"size": size, "neighbours": "stay"}, **(settings | changes))


def images(n: int) -> tuple[Tensor, Draw]:
    number = torch.arange(n)
    x = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, Draw(0, number, torch.zeros_like(number), Stream.DEFENCE)


@pytest.mark.parametrize("settings", [PAPER, OFFICIAL, ALONE], ids=["paper", "official", "alone"])
def test_is_a_slow_loop_over_rows(settings: dict[str, Any]) -> None:
    """Every row has its own layers here: plain modules, torch's autograd, one row after the other."""
    x, draw = images(8)
    ours = dent(settings)(x, draw).detach()
    model = network()
    first, second = model.features[1], model.features[4]  # type: ignore[index]
    p = [v.clone().expand(8, -1).clone().requires_grad_() for n in (first, second) for v in (n.weight, n.bias)]

    def normalised(h: Tensor, norm: Any, scale: Tensor, shift: Tensor) -> Tensor:
        if settings["statistics"] == "batch":
            mean, variance = h.mean((0, 2, 3)), h.var((0, 2, 3), correction=0)
        else:
            mean, variance = norm.running_mean, norm.running_var
        out = []
        for i in range(8):
            hat = (h[i] - mean[:, None, None]) / (variance[:, None, None] + norm.eps).sqrt()
            out.append(hat * scale[i][:, None, None] + shift[i][:, None, None])
        return torch.stack(out)

    def logits() -> Tensor:
        h = model.features[0](x)  # type: ignore[index]
        h = normalised(h, first, p[0], p[1]).relu()
        h = normalised(model.features[3](h), second, p[2], p[3]).relu()  # type: ignore[index]
        return model.head(h.flatten(1))

    state: dict[int, Any] = {}
    for t in range(1, 7):
        soft = logits().softmax(1)
        if settings["loss"] == "shot":
            value = -(soft * (soft + 1e-5).log()).sum(1).mean() + (soft.mean(0) * (soft.mean(0) + 1e-5).log()).sum()
        else:
            value = -(soft * soft.log()).sum(1).mean()
        if settings is ALONE:
            value = value * 8
        slopes = torch.autograd.grad(value, p)
        update = (adam if settings["optimizer"] == "adam" else adamod)(settings["lr"], *settings["betas"])
        for i in range(4):
            new, state[i] = update(p[i].detach(), slopes[i], state.get(i), t)
            p[i] = new.requires_grad_()
    assert torch.allclose(ours, logits().detach(), atol=2e-4)
    assert not torch.allclose(ours, network()(x), atol=1e-3)


def test_adam_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(2, 7, generator=generator).requires_grad_()
    ours, theirs, memory = p.detach().clone(), torch.optim.Adam([p], lr=0.01), None
    for t in range(1, 6):
        g = torch.randn(2, 7, generator=generator)
        p.grad = g.clone()
        theirs.step()
        ours, memory = adam(0.01, 0.9, 0.999, 0.0)(ours, g, memory, t)
        assert torch.allclose(ours, p.detach(), atol=1e-7)


def test_adamod_is_a_scalar_loop_and_adam_where_nothing_is_remembered() -> None:
    """Its authors' code by hand, one number at a time: the bound is the running mean of bias-corrected sizes."""
    generator = torch.Generator().manual_seed(0)
    slopes = torch.randn(6, 5, generator=generator, dtype=torch.float64).tolist()
    ours, memory = torch.zeros(5, dtype=torch.float64), None
    for t, row in enumerate(slopes, 1):
        ours, memory = adamod(0.006, 0.99, 0.999, 0.6)(ours, torch.tensor(row, dtype=torch.float64), memory, t)
    for i in range(5):
        p = m = v = s = 0.0
        for t in range(1, 7):
            g = slopes[t - 1][i]
            m, v = 0.99 * m + 0.01 * g, 0.999 * v + 0.001 * g * g
            size = 0.006 * (1 - 0.999**t) ** 0.5 / (1 - 0.99**t) / (v**0.5 + 1e-8)
            s = 0.6 * s + 0.4 * size
            p -= min(size, s) * m
        assert float(ours[i]) == pytest.approx(p, rel=1e-9)
    free, g = torch.ones(5, dtype=torch.float64), torch.tensor(slopes[0], dtype=torch.float64)
    step = adamod(0.01, 0.9, 0.999, 0.0)(free, g, None, 1)[0]
    assert torch.allclose(step, adam(0.01, 0.9, 0.999, 0.0)(free, g, None, 1)[0], atol=1e-7)


@pytest.mark.parametrize("settings", [PAPER, OFFICIAL], ids=["paper", "official"])
def test_rows_are_coupled_but_filler_is_not(settings: dict[str, Any]) -> None:
    x, draw = images(8)
    whole = dent(settings)(x, draw)
    assert torch.allclose(dent(settings, rows=32)(x, draw), whole, atol=1e-4)  # more filler, same answer
    other = x.clone()
    other[5] = 1 - other[5]
    assert not torch.allclose(dent(settings)(other, draw)[0], whole[0], atol=1e-6)
    assert dent(settings).traits.coupled and dent(settings).group is not None


def test_uncoupled_rows_do_not_know_their_place() -> None:
    x, draw = images(16)
    defence = dent(ALONE)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    assert not defence.traits.coupled and defence.group is None
    assert torch.equal(defence(x[order], draw.rows(order)), defence(x, draw)[order])
    victim, live = Victim(defence, defence.model, seed=0), torch.ones(16, dtype=torch.bool)
    check_rows(victim, x, torch.arange(16))
    whole = victim.query(x, draw, live)
    for i in (0, 15):  # alone, and so among filler
        some = slice(i, i + 1)
        assert torch.equal(victim.query(x[some], draw.rows(some), live[some]), whole[some])


@pytest.mark.parametrize("settings", [PAPER, OFFICIAL, ALONE], ids=["paper", "official", "alone"])
def test_other_traits_are_what_an_experiment_shows(settings: dict[str, Any]) -> None:
    x, draw = images(16)
    defence = dent(settings, size=16)
    first = defence(x, draw)
    assert torch.equal(defence(x, draw._replace(seed=9)), first) and not defence.traits.stochastic
    assert not defence.traits.stateful
    assert not defence.traits.differentiable and not defence(x.requires_grad_(), draw).requires_grad


def test_answers_are_repeatable_and_running_statistics_stay() -> None:
    x, draw = images(8)
    defence = dent(PAPER)
    before = {name: value.clone() for name, value in defence.model.network.state_dict().items()}
    assert torch.equal(defence(x, draw), defence(x, draw))  # nothing outlives a forward
    assert all(torch.equal(before[name], value) for name, value in defence.model.network.state_dict().items())


def test_it_sharpens_and_counts_its_own_passes() -> None:
    x, draw = images(8)
    defence, seen = dent(ALONE, lr=0.05), []
    defence.model.network.features.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    answer = defence(x, draw)

    def entropy(z: Tensor) -> Tensor:
        return -(z.softmax(1) * z.log_softmax(1)).sum(1).mean()

    assert entropy(answer) < entropy(network()(x))
    ledger = defence.model.ledger
    assert ledger.inner == 8 * 6 and ledger.inner + ledger.filler + 8 == sum(seen)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"size": 32}, "does not fit one network call of numerics.rows=16"),
        ({"statistics": "layer"}, "statistics=layer"),
        ({"loss": "mean"}, "loss=mean"),
        ({"optimizer": "sgd"}, "optimizer=sgd"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_bad_settings_are_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(BenchError, match=line):
        dent(PAPER, **changes)


def test_a_network_without_batch_norm_is_refused() -> None:
    plain = Split(nn.Flatten(), nn.Linear(192, 5), (3, 8, 8))
    fixed = FixedRows(plain, 16, torch.float32, Ledger(10, torch.device("cpu")))
    with pytest.raises(BenchError, match="BatchNorm2d"):
        Dent(fixed, steps=6, group={"size": 8, "neighbours": "stay"}, **PAPER)


def digits(artifacts: Path, store: Path, *overrides: str) -> dict[str, Any]:
    common = ["threads=1", "device=cpu", f"store={store}", f"artifacts={artifacts}", "threat.eps=1/12", "samples.n=50"]
    common += ["numerics.rows=16", "threat.queries=20", "recipe.epochs=3", "defense.group.size=10"]
    (one,) = grid.cells([*common, *overrides])
    return one.config


@pytest.mark.parametrize(
    "defense",
    [
        ["defense=dent"],
        ["defense=dent", "defense.group.neighbours=leave"],
        ["defense=dent_official"],
        ["defense=dent", "defense.statistics=running"],
    ],
    ids=["stay", "leave", "official", "alone"],
)
def test_a_cells_ledger_is_what_a_hook_saw_steps_included(
    defense: list[str], artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, original = [0], cell.build_victim

    def hooked(config: Any, network: Any, *rest: Any) -> Any:
        network.features.register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
        return original(config, network, *rest)

    monkeypatch.setattr(cell, "build_victim", hooked)
    monkeypatch.setattr("bench.run.cost.of", lambda *_: {})  # it has a victim and a ledger of its own
    config = digits(artifacts, tmp_path / "a", *defense)
    store = tmp_path / "a"
    frame = Cell(store, cell.run(config)).frame()
    spec = CellSpec.parse(config)
    attack, clean = (Cell(store, each).ledger() for each in (spec.key, spec.clean_key))
    assert sum(attack.values()) + sum(clean.values()) == sum(seen)
    assert attack["attack"] == frame["queries"].sum() > 0
    asked = sum(ledger[name] for ledger in (attack, clean) for name in ("attack", "clean", "placeholder"))
    inner = attack["inner"] + clean["inner"]
    if (
        "defense.statistics=running" in defense
    ):  # uncoupled: the victim fills blocks up before, and the steps see those rows too
        assert inner > 6 * asked
    else:
        assert inner == 6 * asked
