"""AAA: the label stays, the shown margin runs against the true one, Adam is torch's; the sine is the authors'."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw, Stream
from defenses.aaa import Aaa, _margin
from defenses.aaa_sine import AaaSine


class Affine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


SETTINGS = {"tau": 6.0, "alpha": 1.0, "beta": 5.0, "temperature": 1.0, "steps": 100, "lr": 0.1}


def aaa(**changes: Any) -> Aaa:
    return Aaa(Affine(), **(SETTINGS | changes))


def test_the_sine_falls_in_the_middle_and_joins_at_the_ends() -> None:
    """Against a cosine of the place in the interval, 0 at its lower end."""
    sine, margin = AaaSine(Affine(), **(SETTINGS | {"alpha": 0.7})), torch.linspace(0.01, 17.99, 700).double()
    theirs = margin + 0.7 * 6 * torch.cos(2 * torch.pi * ((margin % 6) / 6 - 0.25))
    assert torch.allclose(sine.wanted(margin), theirs, atol=1e-9)
    ends = sine.wanted(torch.tensor([6 - 1e-9, 6 + 1e-9, 9.0], dtype=torch.float64))
    assert torch.allclose(ends, torch.tensor([6.0, 6.0, 9.0], dtype=torch.float64), atol=1e-6)
    logits = torch.zeros(30, 10, dtype=torch.float64)
    logits[:, 3] = torch.linspace(8.2, 9.8, 30)
    shown = _margin(sine.shown(logits), torch.full((30, 1), 3))
    assert (shown[6:] < shown[:-6]).all() and torch.equal(sine.shown(logits).argmax(1), logits.argmax(1))


def test_adam_is_torchs() -> None:
    logits = 4 * torch.randn(8, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    defence = aaa(steps=40)
    ours, label = defence.shown(logits), logits.argmax(1)
    for row, c, shown in zip(logits, label, ours, strict=True):
        z = row.clone().requires_grad_()
        adam = torch.optim.Adam([z], lr=0.1)
        margin = row[c] - row[torch.arange(10) != c].max()
        middle = ((margin / 6).floor() + 0.5) * 6
        wanted, confidence = middle - (margin - middle), row.softmax(0)[c]
        for _ in range(40):
            loss = (z[c] - z[torch.arange(10) != c].max() - wanted).abs() + 5 * (z.softmax(0)[c] - confidence).abs()
            adam.zero_grad()
            loss.backward()
            adam.step()
        assert torch.allclose(shown, z.detach(), atol=1e-6) or z.argmax() != c


def test_the_shown_margin_falls_where_the_true_one_rises() -> None:
    defence = aaa(beta=0.0)
    logits = torch.zeros(50, 10, dtype=torch.float64)
    logits[:, 3] = torch.linspace(6.3, 11.7, 50)  # within one interval
    shown = _margin(defence.shown(logits), torch.full((50, 1), 3))
    assert torch.allclose(shown, 18 - logits[:, 3], atol=0.15)
    assert (shown[10:] < shown[:-10]).all()


def test_no_row_falls_back_to_its_true_logits() -> None:
    """A row whose label the steps would flip is shown as it is; were that common, the defence would be off there."""
    logits = 6 * torch.randn(2000, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert (aaa().shown(logits) != logits).any(1).all()


def test_the_label_stays_and_rows_are_independent() -> None:
    logits = 3 * torch.randn(200, 10, generator=torch.Generator().manual_seed(1))
    x, number = logits[:, :, None, None], torch.arange(200)
    draw = Draw(0, number, torch.zeros_like(number), Stream.DEFENCE)
    whole = aaa()(x, draw)
    assert torch.equal(whole.argmax(1), logits.argmax(1)) and not torch.allclose(whole, logits, atol=0.1)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2))
    assert torch.equal(aaa()(x[order], draw.rows(order)), whole[order])
    other = Draw(7, number, number, Stream.CLEAN)
    assert torch.equal(aaa()(x, other), whole)  # nothing random in it
    alone = [aaa()(x[i : i + 1], draw.rows(slice(i, i + 1))) for i in range(9)]
    assert torch.allclose(torch.cat(alone), whole[:9], atol=1e-5)


@pytest.mark.parametrize("bad", [{"tau": 0.0}, {"steps": 0}, {"alpha": -1.0}, {"lr": 0.0}])
def test_bad_settings_are_one_line(bad: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match=next(iter(bad))):
        aaa(**bad)
