"""A multilayer perceptron for points: Fourier features of the noise embedding join the state in each hidden layer."""

from __future__ import annotations

from torch import Generator, Tensor, nn
from torch.nn import functional

from reference_impls.core.types import Time
from reference_impls.nets.layers import NoiseEmbedding, linear, widened


class MLP(nn.Module):
    """(x [B,D], noise embedding [B] or a float) -> [B, outputs] in float32 or better; zero before training.

    dim: D; outputs: D unless given; depth: hidden layers; width: their channels (defaults: 2 layers of 64).
    """

    def __init__(self, generator: Generator, *, dim: int, outputs: int | None = None, width: int = 64, depth: int = 2):
        super().__init__()
        self.embed = NoiseEmbedding(width, generator)
        self.enter = linear(dim, width, generator)
        self.hidden = nn.ModuleList(linear(width, width, generator) for _ in range(depth))
        self.leave = linear(width, outputs or dim, generator, silent=True)

    def forward(self, x: Tensor, embedding: Time) -> Tensor:
        context = self.embed(embedding, x.shape[0])
        hidden = self.enter(x.to(self.enter.weight.dtype))
        for layer in self.hidden:
            hidden = layer(functional.gelu(hidden + context))
        return widened(self.leave(functional.gelu(hidden)))


NET = MLP
