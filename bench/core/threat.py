"""What the attacker may do: the norm ball, the query budget, the feedback and the goal. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, get_args

from bench.core.errors import BenchError, nearest

if TYPE_CHECKING:
    from torch import Tensor

Norm = Literal["linf", "l2", "l1", "flow_linf", "none"]
Feedback = Literal["logits", "label", "gradient"]
Goal = Literal["untargeted", "random", "least_likely", "runner_up"]

# float32 x + 8/255 oversteps the ball by up to 6e-8 (measured); stated once, used wherever a success is judged
RELATIVE, ABSOLUTE, ROUGH = 1e-6, 1e-7, 1e-3
HALF_ULP = 2.0**-25  # by which float32 may round one pixel; over equal pixels that adds up


@dataclass(frozen=True)
class Threat:
    """eps in [0, 1] pixel scale; `queries` = answers that one sample may draw."""

    norm: Norm
    eps: Fraction
    queries: int
    feedback: Feedback
    goal: Goal

    @property
    def radius(self) -> float:
        return float(self.eps)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(B,) float64 distances in the threat's norm; 0 for flows and `none`, which bound no pixel."""
        return self._length((x_adv.double() - x).flatten(1))

    def _length(self, gap: Tensor) -> Tensor:
        if self.norm in ("flow_linf", "none"):
            return gap[:, 0] * 0
        return gap.abs().amax(1) if self.norm == "linf" else gap.norm(p={"l2": 2, "l1": 1}[self.norm], dim=1)

    def contains(self, x: Tensor, x_adv: Tensor, among: Tensor | None = None) -> Tensor:
        """(B,) bool: x_adv (B,C,H,W) lies in the ball around x up to float rounding, and in [0, 1] exactly. among (B,): the rows
        that are of interest; the others are False.

        float64 is dear: on a CPU only rows that float32 does not rule out are looked at in it; elsewhere all are, since the
        device would have to be asked which they are.
        """
        import torch  # here, so that a grid is expanded without it

        among = torch.ones(len(x), dtype=torch.bool, device=x.device) if among is None else among
        if x.device.type != "cpu":
            return among & self._contains(x, x_adv)
        inside, some = torch.zeros_like(among), among.nonzero()[:, 0]
        rough = self._length((x_adv[some] - x[some]).flatten(1)) <= self.radius * (1 + ROUGH) + ROUGH
        near = some[rough]
        if len(near):
            inside[near] = self._contains(x[near], x_adv[near])
        return inside

    def _contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        from bench.core.rows import extremes  # imports torch

        pixels = x_adv.flatten(1)
        low, high = extremes(pixels)
        return (low >= 0) & (high <= 1) & (self.distance(x, x_adv) <= self._farthest(pixels.shape[1]))

    def _farthest(self, pixels: int) -> float:
        return self.radius * (1 + RELATIVE) + self._slack(pixels)

    def _slack(self, pixels: int) -> float:
        """The longest change that rounding x + delta alone can make."""
        return ABSOLUTE + HALF_ULP * {"l2": pixels**0.5, "l1": pixels}.get(self.norm, 0.0)


def read(config: Any) -> Threat:
    """A Threat from its YAML; every value that makes no sense is a BenchError that says what does."""
    if not isinstance(config, Mapping):
        raise BenchError(f"threat={config} must be a group of settings; choose one, such as threat=linf_8")
    known = [field.name for field in fields(Threat)]
    for name in config:
        if name not in known:
            raise BenchError(f"threat.{name} is unknown{nearest(str(name), known)}")
    for name in known:
        if name not in config:
            raise BenchError(f"threat lacks `{name}`; add it to its YAML")
    norm, eps = _one_of("norm", config["norm"], Norm), _fraction(config["eps"])
    queries = config["queries"]
    if norm == "linf" and eps > 1:
        raise BenchError(f"threat.eps={config['eps']} is in 0..255 units; write it as a fraction of 1: eps={eps}/255")
    if eps <= 0:
        raise BenchError(f"threat.eps={config['eps']} must be positive, on the [0, 1] pixel scale, such as 8/255")
    if not isinstance(queries, int) or isinstance(queries, bool) or queries < 1:
        raise BenchError(
            f"threat.queries={queries} must be a whole number of at least 1; for no attack use attack=none"
        )
    feedback = _one_of("feedback", config["feedback"], Feedback)
    return Threat(norm, eps, queries, feedback, _one_of("goal", config["goal"], Goal))


def canonical(threat: Threat) -> dict[str, Any]:
    """Plain values for the cell key: eps in lowest terms, so 16/510 and 8/255 are one cell."""
    return asdict(threat) | {"eps": str(threat.eps)}


def _one_of(field: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, str) or value not in get_args(kind):
        raise BenchError(f"threat.{field}={value} is unknown{nearest(str(value), get_args(kind))}")
    return value


def _fraction(value: Any) -> Fraction:
    try:
        return Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise BenchError(f"threat.eps={value} is no number; write a fraction of 1 such as 8/255, or 0.03") from None
