"""Figures: what the YAML may say, the numbers that are drawn, the same bytes every time; and the t-SNE script's inner parts."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from bench.models.split import Split
from bench.report.figures import bars, lines, margin_trace, scatter, style
from bench.report.table import Entry, Table
from bench.report.values import Value, Z, share
from bench.store.trace import TRACE_AT
from defenses.unig import Unig
from scripts import tsne
from tests.support.reports import drawn as draw

pytest.importorskip("matplotlib")
METRICS = {"Square-2500": "robust_acc", "clean acc": "clean_acc", "logit diff": "logit_diff"}


def table(rows: list[str], missing: tuple[str, str] | None = None) -> Table:
    entries = {}
    for i, row in enumerate(rows):
        for column, metric in METRICS.items():
            ours = Value(i, 50, i - 0.2, i + 0.2) if metric == "logit_diff" else share(10 * i, 50)
            where = (row, column)
            entries[where] = Entry(
                row, column, metric, None if where == missing else ours, 50.0 if i else None, f"key{i}", f"fill {i}"
            )
    return Table("main", "title", [], rows, list(METRICS), entries)


NAMED, NUMBERED = table(["Vanilla", "AT (f_b)", "UniG, neighbours stay"]), table(["10", "1", "100"])
BARS = {"kind": "bars", "title": "Fig 1c", "table": "main", "columns": ["Square-2500", "logit diff"]}
LINES = {"kind": "lines", "table": "main", "x": "alpha", "columns": list(METRICS), "log_x": True}
TRACE = {"kind": "trace", "table": "main", "column": "Square-2500", "rows": ["Vanilla", "AT (f_b)"]}
SCATTER = {
    "kind": "scatter", "table": "main", "x": "clean acc", "columns": ["Square-2500", "logit diff"],
    "groups": {"plain": ["Vanilla", "AT (f_b)"], "UniG": ["UniG, neighbours stay"]},
}  # fmt: skip


HEATMAP = {"kind": "heatmap", "table": "main", "columns": ["Square-2500", "clean acc"]}


class Recorded:
    """A placeholder for bench.report.records.Records: 40 samples, every fourth wrong when clean, a budget of 2500."""

    def __init__(self, changed: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame) -> None:
        self.changed = changed

    def frame(self, store: Path, key: str, columns: Sequence[str]) -> pd.DataFrame:
        return self.changed(records(seed=len(key) + int(key[-1])))


def records(seed: int, n: int = 40) -> pd.DataFrame:
    falls = np.random.default_rng(seed).normal(3.0, 1.0, (n, len(TRACE_AT))).astype(np.float32)
    traces = np.minimum.accumulate(falls, axis=1)
    traces[:, np.array(TRACE_AT) > 2500] = np.nan
    clean = np.arange(n) % 4 != 0
    kept = [trace if right else None for trace, right in zip(traces, clean, strict=True)]
    return pd.DataFrame({"position": range(n), "clean": clean, "trace": kept})


@pytest.mark.parametrize(("spec", "drawn"), [(BARS, NAMED), (LINES, NUMBERED), (TRACE, NAMED), (SCATTER, NAMED)])
def test_every_kind_is_drawn_with_the_same_bytes_each_time(spec: dict[str, Any], drawn: Table, tmp_path: Path) -> None:
    first = draw(spec, {"main": drawn}, tmp_path, tmp_path / "a" / "fig1.c", Recorded())
    assert [path.name for path in first] == ["fig1.c.svg", "fig1.c.png"]
    assert all(path.stat().st_size > 5000 for path in first)
    again = draw(spec, {"main": drawn}, tmp_path, tmp_path / "b" / "fig1.c", Recorded())
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    svg = first[0].read_text()
    assert "<dc:date>" not in svg
    assert all(f">{name}<" in svg for name in [*spec.get("rows", []), *spec.get("groups", [])])
    assert ("percent" in svg, "logits" in svg) == (spec["kind"] != "trace",) * 2


def test_bars_show_values_intervals_and_the_papers_numbers() -> None:
    entries = {
        (row, column): NAMED.entries[row, column] for row in NAMED.rows for column in ("Square-2500", "clean acc")
    }
    with style.drawing():
        (axes,) = bars.draw(entries, NAMED.rows, ["Square-2500", "clean acc"]).axes
    lengths = [patch.get_width() for patch in axes.patches]  # pyright: ignore[reportAttributeAccessIssue]
    assert lengths == pytest.approx([0, 20, 40, 0, 20, 40])
    assert [text.get_text() for text in axes.get_yticklabels()] == NAMED.rows and axes.get_xlim() == (0, 100)
    assert [text.get_text() for text in axes.texts] == ["0.0", "20.0", "40.0"] * 2  # beside the bars
    value, spread, paper = style.numbers([NAMED.entries["UniG, neighbours stay", "Square-2500"]])
    known = share(20, 50)
    assert value[0] - spread[0, 0] == pytest.approx(known.low) and value[0] + spread[1, 0] == pytest.approx(known.high)
    assert paper[0] == 50.0 and math.isnan(style.numbers([NAMED.entries["Vanilla", "clean acc"]])[2][0])


@pytest.mark.parametrize("spec", [BARS, LINES, TRACE, SCATTER, HEATMAP], ids=lambda spec: spec["kind"])
def test_no_text_runs_out_or_lies_on_another(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of long names, in which every kind used to turn or cut its labels."""
    long = "UniG, batch neighbours stay where they are, at the attacker's own budget"
    named = NUMBERED if spec is LINES else table([*NAMED.rows[:2], NAMED.rows[2], long])
    figures: list[Any] = []
    monkeypatch.setattr(style, "save_figure", lambda figure, stem: figures.append(figure) or [])
    monkeypatch.setattr("bench.report.figures.draw.save_figure", lambda figure, stem: figures.append(figure) or [])
    more = {"scatter": {"groups": {"plain": named.rows}}, "trace": {"rows": named.rows}}.get(spec["kind"], {})
    draw(spec | more, {"main": named}, tmp_path, tmp_path / "f", Recorded())
    (figure,) = figures
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    FigureCanvasAgg(figure).draw()
    drawn = figure.get_tightbbox()  # inches
    wide, high = figure.get_size_inches()
    assert drawn.x0 >= -0.01 and drawn.y0 >= -0.01 and drawn.x1 <= wide + 0.01 and drawn.y1 <= high + 0.01
    unseen = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in _out_of_view(axis)}
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    extent = Text.get_window_extent  # an annotation's own would hold the line that leads to it
    boxes = [(text, extent(text).padded(-1)) for text in shown if text not in unseen]
    assert len(boxes) > 8 and {text.get_rotation() for text, _ in boxes} <= {0, 90}  # 90: a vertical axis's own title
    for i, (text, box) in enumerate(boxes):
        for other, beside in boxes[i + 1 :]:
            assert not box.overlaps(beside), (text.get_text(), other.get_text())


def _out_of_view(axis: Any) -> list[Any]:
    """Labels that matplotlib makes and does not draw."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [label for tick in ticks if not low <= tick.get_loc() <= high for label in (tick.label1, tick.label2)]


def test_lines_are_ordered_by_x_with_a_panel_a_unit() -> None:
    with style.drawing():
        figure = lines.draw("figures.f", NUMBERED.entries, NUMBERED.rows, list(METRICS), "alpha", True)
    percent, logits = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == ["percent", "logits"]
    assert np.array_equal(percent.lines[0].get_xdata(), [1, 10, 100])
    assert np.array_equal(logits.lines[0].get_ydata(), [1, 0, 2])
    assert percent.get_xscale() == "log" and percent.get_xlabel() == "alpha" and percent.get_ylim() == (0, 100)
    assert [text.get_text() for text in percent.texts] == ["Square-2500", "clean acc"]


def test_names_at_the_ends_of_lines_lie_apart_and_in_their_order() -> None:
    assert style.apart([10, 50, 90], 5, 0, 100) == [10, 50, 90]
    places = style.apart([0, 1, 2, 50, 51, 99.5, 100], 5, 0, 100)
    assert places == sorted(places) and np.diff(places).min() >= 5 - 1e-9
    assert min(places) >= 0 and max(places) <= 100
    assert style.apart([51, 50], 4, 0, 100) == [52.5, 48.5]


def test_a_line_may_end_before_another() -> None:
    short = {pair: entry for pair, entry in NUMBERED.entries.items() if pair != ("100", "clean acc")}
    with style.drawing():
        figure = lines.draw("figures.f", short, NUMBERED.rows, ["Square-2500", "clean acc"], "alpha", False)
    (axes,) = figure.axes
    assert [len(np.asarray(bar.lines[0].get_xdata())) for bar in _bars(axes)] == [3, 2]


def _bars(axes: Any) -> list[Any]:
    return axes.containers


def test_a_scatter_has_a_point_a_row_with_both_intervals() -> None:
    groups = scatter.grouped("figures.f", SCATTER["groups"], NAMED.rows)
    with style.drawing():
        figure = scatter.draw(NAMED.entries, groups, "clean acc", ["Square-2500"])
    (axes,) = figure.axes
    plain, unig = _bars(axes)
    assert np.array_equal(plain.lines[0].get_xydata(), [[0, 0], [20, 20]])
    assert np.array_equal(unig.lines[0].get_xydata(), [[40, 40]])
    known = share(20, 50)
    across, up = unig.lines[2][0].get_segments()[0], unig.lines[2][1].get_segments()[0]
    assert across[:, 0] == pytest.approx([known.low, known.high]) and across[:, 1] == pytest.approx([40, 40])
    assert up[:, 1] == pytest.approx([known.low, known.high]) and up[:, 0] == pytest.approx([40, 40])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("clean acc (percent)", "Square-2500 (percent)")
    assert scatter.grouped("figures.f", None, ["a", "b"]) == {"a": ["a"], "b": ["b"]}


def test_a_trace_is_the_mean_over_the_first_n_that_were_right_when_clean() -> None:
    frame, n = records(seed=1), 30
    x, middle, low, high = margin_trace.curve(frame, n)
    inside = [at for at in TRACE_AT if at <= 2500]
    assert list(x) == inside
    chosen = np.stack([frame["trace"][i] for i in range(n) if i % 4])[:, : len(inside)].astype(np.float64)
    assert middle == pytest.approx(chosen.mean(0))
    half = Z * chosen.std(0, ddof=1) / math.sqrt(len(chosen))
    assert low == pytest.approx(chosen.mean(0) - half) and high == pytest.approx(chosen.mean(0) + half)
    frame["trace"][1][3] = np.nan
    with pytest.raises(BenchError, match="some traces end before others"):
        margin_trace.curve(frame, n)
    assert len(margin_trace.curve(frame.assign(clean=False), n)[0]) == 0


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (BARS | {"kind": "bar"}, r"figures\.f: kind bar is unknown; did you mean 'bars'"),
        (BARS | {"table": "mian"}, "table mian is unknown; did you mean 'main'"),
        (BARS | {"columns": ["Square-250"]}, "column Square-250 is unknown; did you mean 'Square-2500'"),
        (BARS | {"rows": ["Vanila"]}, "row Vanila is unknown; did you mean 'Vanilla'"),
        (BARS | {"colums": []}, r"figures\.f\.colums is unknown; did you mean 'columns'"),
        (BARS | {"columns": "clean acc"}, r"must be a list: \[clean acc\]"),
        ({"kind": "trace", "table": "main"}, "lacks `column`"),
        ({"kind": "scatter", "table": "main", "columns": ["clean acc"]}, "lacks `x`"),
        (SCATTER | {"x": "clean ac"}, "column clean ac is unknown; did you mean 'clean acc'"),
        (SCATTER | {"groups": {"all": NAMED.rows[:2]}}, "groups: UniG, neighbours stay is in 0 groups"),
        (SCATTER | {"groups": {"a": [*NAMED.rows, "AT"]}}, "groups: AT is no row of the figure"),
        (SCATTER | {"groups": {"a": NAMED.rows, "b": NAMED.rows[:1]}}, "groups: Vanilla is in 2 groups"),
        (SCATTER | {"groups": ["Vanilla"]}, "groups=.* must be a group of settings"),
        (LINES, "row Vanilla is an x value and must be a positive number, for log_x"),
        (TRACE | {"column": "clean acc"}, "column clean acc is clean_acc; a trace needs one of robust_acc"),
    ],
)
def test_a_figure_described_wrongly_says_what_is_right(spec: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=said):
        draw(spec, {"main": NAMED}, tmp_path, tmp_path / "f")
    assert not list(tmp_path.iterdir())


def test_missing_cells_and_cells_without_a_trace_name_the_command(
    tmp_path: Path,
) -> None:
    lacking = table(NAMED.rows, missing=("AT (f_b)", "logit diff"))
    with pytest.raises(
        BenchError, match=r"figures\.f: row AT \(f_b\), column logit diff is missing; to fill it: fill 1"
    ):
        draw(BARS, {"main": lacking}, tmp_path, tmp_path / "f")
    narrow = Table(
        "main", "", [], NAMED.rows, NAMED.columns, {("Vanilla", "clean acc"): NAMED.entries["Vanilla", "clean acc"]}
    )
    with pytest.raises(BenchError, match="table main has no entry for row Vanilla, column Square-2500"):
        draw(BARS, {"main": narrow}, tmp_path, tmp_path / "f")
    old = Recorded(lambda frame: frame.assign(trace=None))
    with pytest.raises(BenchError, match=r"cell of row Vanilla has no trace; move .*key0 away, then: fill 0"):
        draw(TRACE, {"main": NAMED}, tmp_path, tmp_path / "f", old)


def test_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BenchError, match="figures need matplotlib: pip install matplotlib"):
        draw(BARS, {"main": NAMED}, tmp_path, tmp_path / "f")


# --- scripts/tsne.py -------------------------------------------------------------------------------------------------


@pytest.fixture
def network() -> Split:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU())
        return Split(features, nn.Linear(16, 4), (1, 8, 8)).eval().requires_grad_(False)


def unig(network: Split, **settings: Any) -> Unig:
    plain = {
        "delta": 0.5, "steps": 1, "alpha": 10, "objective": "l2", "optimizer": "sgd", "stateful": False,
        "deterministic_init": False, "group": {"size": 6, "neighbours": "stay"},
    }  # fmt: skip
    return Unig(network, **(plain | settings))


def some_images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(12, 1, 8, 8, generator=generator)
    return x, torch.randint(0, 4, (12,), generator=generator), torch.arange(100, 112)


def test_feature_gradients_are_autograds(network: Split) -> None:
    x, _, number = some_images()
    defense, draw = unig(network), Draw(0, number, torch.zeros_like(number), Stream.CLEAN)
    seen = tsne.look(network, defense, x, draw)
    f = network.features(x)
    label = network(x).argmax(1)
    for name in tsne.MASKS:
        mask = (seen.features[name] / f).nan_to_num(0.0)  # where f = 0 the mask is lost
        leaf = f.clone().requires_grad_(True)
        (true,) = torch.autograd.grad(nn.functional.cross_entropy(network.head(mask * leaf), label), leaf)
        assert torch.allclose(seen.gradients[name][f > 0], true[f > 0], atol=1e-6)
    assert torch.allclose(network.head(seen.features["unig"]), defense(x, draw), atol=1e-6)


@pytest.mark.parametrize("steps", [0, 1])
def test_the_mask_is_the_one_that_unig_answers_with(network: Split, steps: int) -> None:
    x, _, number = some_images()
    defense, draw = unig(network, steps=steps), Draw(3, number, torch.ones_like(number), Stream.CLEAN)
    masked = tsne.look(network, defense, x, draw).features["unig"]
    assert torch.allclose(network.head(masked), defense(x, draw), atol=1e-6)


def test_pgd_stays_in_the_ball_and_raises_the_loss(network: Split) -> None:
    x, y, _ = some_images()
    found = tsne.pgd(network, x, y, 0.1)
    assert (found - x).abs().max() <= 0.1 + 1e-6 and found.min() >= 0 and found.max() <= 1
    loss = nn.functional.cross_entropy
    assert loss(network(found), y) > loss(network(x), y) + 0.1


def test_unigs_own_examples_lie_in_the_ball_and_raise_its_loss(network: Split) -> None:
    """Behind fresh masks; the clean halves of the panels, and the bare network's, are those of examples=bare."""
    x, y, number = some_images()
    defense = unig(network)
    own = tsne.pgd_through(network, defense, x, y, 0.1, number, seed=0)
    assert (own - x).abs().max() <= 0.1 + 1e-6 and own.min() >= 0 and own.max() <= 1
    assert torch.equal(own, tsne.pgd_through(network, defense, x, y, 0.1, number, seed=0))

    def loss(images: torch.Tensor) -> float:
        draws = [Draw(7, number, torch.full_like(number, nth), Stream.JUDGE) for nth in range(30)]
        return float(sum(nn.functional.cross_entropy(defense(images, draw), y) for draw in draws))

    assert loss(own) > 1.02 * loss(x)
    kinds = {name: tsne.collect(network, defense, x, y, number, 0.1, 6, 0, name) for name in tsne.EXAMPLES}
    assert np.array_equal(kinds["own"]["features", "vanilla"], kinds["bare"]["features", "vanilla"])
    halves = [np.split(each["features", "unig"], 2) for each in kinds.values()]
    assert np.array_equal(halves[0][0], halves[1][0]) and not np.array_equal(halves[0][1], halves[1][1])
    with pytest.raises(BenchError, match="examples=both: it is one of own, bare"):
        tsne.main(["examples=both"])


def test_a_tiny_tsne_is_drawn_and_seeded(network: Split, tmp_path: Path) -> None:
    x, y, number = some_images()
    panels = tsne.collect(network, unig(network), x, y, number, 0.1, size=6, seed=0)
    assert list(panels) == [(space, mask) for space in tsne.SPACES for mask in tsne.MASKS]
    assert all(rows.shape == (24, 16) for rows in panels.values())
    points = {place: tsne.embed(rows, seed=0) for place, rows in panels.items()}
    again = tsne.embed(panels["gradients", "unig"], seed=0)
    assert np.array_equal(again, points["gradients", "unig"]) and np.isfinite(again).all()
    lines = tsne.coordinates(points, number.numpy(), y.numpy()).splitlines()
    assert len(lines) == 1 + 4 * 24 and lines[1].startswith(f"100,{int(y[0])},clean,features,vanilla,")
    paths = tsne.plot(points, y.numpy(), "tiny", tmp_path / "tsne")
    assert [path.suffix for path in paths] == [".svg", ".png"] and all(path.stat().st_size > 5000 for path in paths)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["defense=rnd"], "set defense=unig"),
        (["defense=unig_companions"], "set defense=unig"),
        (["images=300"], r"images=300 must be a multiple of defense\.group\.size=256"),
        (["images=4000", "defense.group.size=4000"], "must lie between 2 and"),
        (["threat.norm=l2"], "set threat=linf_8"),
        (["defense=unig,unig_leave"], "describe 2 cells"),
    ],
)
def test_tsne_refuses_what_it_cannot_show(typed: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=said):
        tsne.main([*typed, f"store={tmp_path}", "device=cpu"])
