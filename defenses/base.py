"""What a test-time defence is: a module around a split model, with traits that it declares and a test proves."""

from typing import Any

from torch import Tensor, nn

from bench.core.errors import BenchError
from bench.core.rng import Draw
from bench.core.traits import Group, Neighbours, Traits

__all__ = ["Defense", "Group", "Neighbours", "Traits"]


class Defense(nn.Module):
    """`model` is a split model (features, head) whose every call the victim meters.

    forward: x (B,C,H,W) in [0, 1] and a Draw of B rows -> logits (B,K).
    """

    traits = Traits()
    group: Group | None = None  # set where traits.coupled
    couples_behind_features: bool = (
        False  # rows meet behind `model.features` alone: several groups may share a network call
    )
    companion_rows: int = 0  # network rows that the constructor spent on images of its own
    queries_per_call: int = 1  # answers that one query draws: more where the attacker fills the batch with copies of it

    model: Any  # nn.Module has no way to say that it is one with `features` and `head`

    def __init__(self, model: nn.Module, version: int = 1) -> None:
        super().__init__()
        self.model, self.version = model, version

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    kinds: tuple[str, ...] = ("identity",)  # the backward passes that `approximate` knows

    def approximate(self, x: Tensor, draw: Draw, kind: str) -> Tensor:
        """The answer of `forward` with another backward pass, for BPDA. `identity`: the bare model's, at x. A defence that
        changes the image overrides it: the bare model's at the image that it made."""
        bare = self.model(x)
        self.model.ledger.inner += len(x)
        return bare + (self(x, draw) - bare).detach()

    def check_kind(self, kind: str) -> None:
        """Raises BenchError for a backward pass that this defence does not offer."""
        if kind not in self.kinds:
            raise BenchError(f"{type(self).__name__} has no backward pass {kind!r}; it has: {', '.join(self.kinds)}")

    def added_parameters(self) -> int:
        """Numbers that the method keeps or optimises beside the model's own (the UniG paper's table 4 counts them)."""
        return 0

    def reset(self) -> None:
        """Forget earlier queries; called before every group."""
