"""Defences that defend nothing, and some that cheat: what an audit must find out."""

import torch
from torch import Tensor, nn
from torchvision.io import decode_jpeg, encode_jpeg

from bench.core.rng import Draw, uniform
from defenses.base import Defense, Traits


class Large(Defense):
    """Logits of 1e4 times the size: softmax is 0 or 1, its gradient gone."""

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self.model(x) * 1e4


class Tiny(Defense):
    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self.model(x) * 1e-4


class SoftmaxTwice(Defense):
    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return (self.model(x) * 4).softmax(1).softmax(1)


class EightLevels(Defense):
    traits = Traits(differentiable=False)

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self.model((x * 7).round() / 7)


class RandomGradient(Defense):
    """The network's answers, with a gradient of noise."""

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        answer = self.model(x.detach())
        noise = (torch.arange(x[0].numel(), device=x.device) * 12.9898).sin().view_as(x[0]) * x
        return answer + (noise - noise.detach()).flatten(1).sum(1, keepdim=True) * answer.detach().cos()


class OneHot(Defense):
    """Scores that say nothing but the label."""

    traits = Traits(differentiable=False)

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        answer = self.model(x)
        return nn.functional.one_hot(answer.argmax(1), answer.shape[1]).float()


class Dithered(Defense):
    """Rounded to 8 levels after uniform noise of one level."""

    traits = Traits(stochastic=True, differentiable=False)

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        noise = uniform(draw.key(), *x.shape[1:]) - 0.5
        return self.model(((x * 7 + noise).round() / 7).clamp(0, 1))


class Jpeg(Defense):
    traits = Traits(differentiable=False)

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        files = [encode_jpeg((each.cpu() * 255).round().to(torch.uint8), quality=60) for each in x]
        return self.model(torch.stack([decode_jpeg(file) for file in files]).to(x) / 255)


class Remembers(Defense):
    """Answers what lies near an image that it has seen as it answered that: a cheat, for it declares no state."""

    def __init__(self, model: nn.Module, version: int = 1) -> None:
        super().__init__(model, version)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        answer = self.model(x).clone()
        for i, image in enumerate(x):
            known = [kept for other, kept in self.seen if float((other - image).abs().max()) < 0.1]
            if known:
                answer[i] = known[0]
            else:
                self.seen.append((image.detach().clone(), answer[i].detach().clone()))
        return answer


class Counts(Defense):
    """Honest for a thousand images, then it shuffles its answers."""

    asked = 0

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        self.asked += len(x)
        return self.model(x).roll(int(self.asked > 1000), 1)


class SaysDeterministic(Defense):
    """Keyed noise, but its traits know nothing of it."""

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self.model((x + 0.05 * uniform(draw.key(), *x.shape[1:])).clamp(0, 1))


class Unkeyed(Defense):
    traits = Traits(stochastic=True)

    def forward(self, x: Tensor, draw: Draw) -> Tensor:
        return self.model((x + 0.05 * torch.rand_like(x)).clamp(0, 1))


NOOPS = (Large, Tiny, SoftmaxTwice, EightLevels, RandomGradient, OneHot, Dithered, Jpeg)
CHEATS = (Remembers, Counts, SaysDeterministic, Unkeyed)
