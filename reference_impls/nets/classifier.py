"""A small digit classifier; its penultimate layer serves the digit metrics as features."""

from __future__ import annotations

from torch import Generator, Tensor, nn
from torch.nn import functional

from reference_impls.nets.layers import convolution, linear, widened


class Classifier(nn.Module):
    """Images [B,1,8,8] in [-1,1] -> logits [B, classes]; `features` are the `width` numbers before the last layer."""

    def __init__(self, generator: Generator, *, channels: int = 24, width: int = 48, classes: int = 10):
        super().__init__()
        self.first = convolution(1, channels, 3, generator)
        self.second = convolution(channels, 2 * channels, 3, generator)
        self.third = convolution(2 * channels, 2 * channels, 3, generator)
        self.narrow = linear(2 * channels * 4, width, generator)
        self.last = linear(width, classes, generator)

    def features(self, x: Tensor) -> Tensor:
        """[B,1,8,8] -> [B, width] in float32 or better, smooth in x: a kink would make their law less Gaussian."""
        x = x.to(self.first.weight.dtype)
        x = functional.avg_pool2d(functional.gelu(self.second(functional.gelu(self.first(x)))), 2)
        x = functional.avg_pool2d(functional.gelu(self.third(x)), 2)
        return widened(functional.gelu(self.narrow(x.flatten(1))))

    def forward(self, x: Tensor) -> Tensor:
        return widened(self.last(self.features(x).to(self.last.weight.dtype)))


NET = Classifier
