"""A bidirectional token transformer whose layers are modulated by the noise embedding.

A convolution over near places comes first: on short runs attention alone stays at the letters' frequencies for
thousands of updates (3.12 nats per character after 500, against 2.45 with it).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from reference_impls.core.types import Time
from reference_impls.nets.layers import NoiseEmbedding, linear, neighbourhood, table, widened


class Block(nn.Module):
    """Self-attention and a two-layer perceptron, each x + gate * f((1 + scale) * norm(x) + shift).

    shift, scale and gate are the sum of what the noise embedding says to all blocks and of this block's own numbers;
    the gates start at zero.
    """

    def __init__(self, width: int, heads: int, generator: Generator):
        super().__init__()
        self.heads = heads
        self.own = nn.Parameter(torch.zeros(6 * width))
        self.qkv = linear(width, 3 * width, generator)
        self.mixed = linear(width, width, generator)
        self.wide = linear(width, 4 * width, generator)
        self.narrow = linear(4 * width, width, generator)

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.mixed(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift, scale, gate, shift_2, scale_2, gate_2 = (modulation + self.own)[:, None].chunk(6, dim=-1)
        normal = functional.layer_norm(x, x.shape[-1:])
        x = x + gate * self.attend(torch.addcmul(shift, normal, 1 + scale))
        normal = functional.layer_norm(x, x.shape[-1:])
        return x + gate_2 * self.narrow(functional.gelu(self.wide(torch.addcmul(shift_2, normal, 1 + scale_2))))


class Transformer(nn.Module):
    """(tokens [B,L] int64 in 0..states-1, noise embedding [B] or a float) -> [B,L,classes]; zero before training.

    states: token states that may be read; classes: outputs per place; length: the longest L; reach: of the convolution.
    """

    def __init__(
        self, generator: Generator, *, states: int, classes: int, length: int = 64, width: int = 96, depth: int = 3,
        heads: int = 4, reach: int = 3,
    ):  # fmt: skip
        super().__init__()
        self.embed = NoiseEmbedding(width, generator)
        self.tokens = table(states, width, generator)
        self.places = table(length, width, generator)
        self.near = neighbourhood(width, reach, generator)
        self.modulation = linear(width, 6 * width, generator, silent=True)
        self.blocks = nn.ModuleList(Block(width, heads, generator) for _ in range(depth))
        self.leave = linear(width, classes, generator, silent=True)

    def forward(self, x: Tensor, embedding: Time) -> Tensor:
        modulation = self.modulation(self.embed(embedding, x.shape[0]))
        hidden = self.tokens(x) + self.places.weight[: x.shape[1]]
        hidden = hidden + self.near(hidden.transpose(1, 2)).transpose(1, 2)
        for block in self.blocks:
            hidden = block(hidden, modulation)
        return widened(self.leave(functional.layer_norm(hidden, hidden.shape[-1:])))


NET = Transformer
